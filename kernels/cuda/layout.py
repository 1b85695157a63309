"""Where the numbers of one image lie in the buffers that the host fills and the CUDA kernels read."""

from __future__ import annotations

WHOLE_ROW = 24
"""int32 numbers per image and depth; REAL_ROW, where the same memory is read as float64:"""
REAL_ROW = 12
OP = 0
FLIP = 1
VALUE = 2
"""Bits, threshold (rounded up) or addend, as a whole number."""
SLOT = 3
"""Which statistics belong to the image."""
KIND = 4
LINE_MAPS = 5
"""Where the image's maps begin."""
FILL = 6
"""Three."""
FIXED = 10
"""Six, for nearest, 16.16 fixed point: x per column, per row, at the first pixel's middle; the same for y."""
MATRIX = 5
"""Pillow's six coefficients for bilinear, as float64, in the place of the fixed ones."""

LINES = 1
"""Nearest, source columns and rows in two lists (Pillow's walk for matrices without rotation or shear)."""
PIXELS = 2
"""Nearest, source column and row listed per pixel (coordinates beyond fixed point: any rounding)."""
# Kind 0 is nearest in fixed point.

STATISTICS_PARTS = 4
"""The number of parts an image is cut into for its statistics: blocks on the device, so a batch fills it."""

LEVELS = 257
"""Levels of a channel when images are mixed: 256, and the erased one."""
