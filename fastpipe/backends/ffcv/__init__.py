"""FFCV: its native reader and decoder, in threads of our own."""
