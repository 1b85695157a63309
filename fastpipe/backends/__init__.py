"""Whole-pipeline backends behind one protocol; no lower room imports one."""
