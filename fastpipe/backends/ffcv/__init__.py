"""FFCV: its native reader and decoder, in our own threads."""
