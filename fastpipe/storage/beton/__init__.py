"""FFCV's `.beton` files: read, written and checked; FFCV itself is not needed."""
