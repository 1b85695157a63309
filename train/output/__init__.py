"""The output of a run: its folder, records, progress, report, trackers."""
