"""Operations that are a table of 256 levels per channel, and the statistics they need. numba, CPU.

pixels: uint8 [H*W*3], RGB interleaved. table: uint8 [768], channel c at 256 * c. counts: int64 [768], too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastpipe.kernels import rules
from fastpipe.kernels.compiled import inlined, inner
from fastpipe.kernels.ops import (
    AUTOCONTRAST,
    BRIGHTNESS,
    CONTRAST,
    EQUALIZE,
    INVERT,
    POSTERIZE,
    SOLARIZE,
    SOLARIZE_ADD,
)

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

_gray = inlined(rules.gray)
_blend = inlined(rules.blend)
_rounded_mean = inlined(rules.rounded_mean)
_posterize_level = inlined(rules.posterize_level)
_solarize_level = inlined(rules.solarize_level)
_solarize_add_level = inlined(rules.solarize_add_level)
_invert_level = inlined(rules.invert_level)
_autocontrast_level = inlined(rules.autocontrast_level)
_equalize_level = inlined(rules.equalize_level)


@inner
def apply_table(source: Bytes, target: Bytes, table: Bytes) -> None:
    """Write table[level] per channel. `target` may be `source`."""
    red, green, blue = table[:256], table[256:512], table[512:]
    # Counting pixels rather than stepping by 3, and unsigned indices: 1.1 ns a pixel compared with 2.3.
    for pixel in range(source.size // 3):
        p = np.uint32(3 * pixel)
        target[p] = red[source[p]]
        target[p + 1] = green[source[p + 1]]
        target[p + 2] = blue[source[p + 2]]


@inner
def fill_table(op: int, value: float, pixels: Bytes, counts: Counts, table: Bytes) -> None:
    """Fill `table` for `op` on this image. `counts` is scratch."""
    if op in (AUTOCONTRAST, EQUALIZE):
        _count_levels(pixels, counts)
        for c in range(3):
            channel = slice(256 * c, 256 * c + 256)
            if op == AUTOCONTRAST:
                _fill_autocontrast(counts[channel], table[channel])
            else:
                _fill_equalize(counts[channel], table[channel])
        return
    mean = _mean_gray(pixels) if op == CONTRAST else 0
    for level in range(256):
        new = level
        if op == POSTERIZE:
            new = _posterize_level(level, int(value))
        elif op == SOLARIZE:
            new = _solarize_level(level, value)
        elif op == SOLARIZE_ADD:
            new = _solarize_add_level(level, int(value))
        elif op == INVERT:
            new = _invert_level(level)
        elif op in (BRIGHTNESS, CONTRAST):
            new = int(_blend(np.float32(mean), np.float32(level), np.float32(value)))
        table[level] = new
        table[256 + level] = new
        table[512 + level] = new


@inner
def _count_levels(pixels: Bytes, counts: Counts) -> None:
    for i in range(counts.size):
        counts[i] = 0
    for pixel in range(pixels.size // 3):
        p = np.uint32(3 * pixel)
        counts[pixels[p]] += 1
        counts[256 + np.int64(pixels[p + 1])] += 1
        counts[512 + np.int64(pixels[p + 2])] += 1


@inner
def _mean_gray(pixels: Bytes) -> int:
    total = 0
    for pixel in range(pixels.size // 3):
        p = np.uint32(3 * pixel)
        total += int(_gray(np.int32(pixels[p]), np.int32(pixels[p + 1]), np.int32(pixels[p + 2])))
    return _rounded_mean(total, pixels.size // 3)


@inner
def _fill_autocontrast(counts: Counts, table: Bytes) -> None:
    low, high = 0, 255
    while low < 255 and counts[low] == 0:
        low += 1
    while high > 0 and counts[high] == 0:
        high -= 1
    for level in range(256):
        table[level] = _autocontrast_level(level, low, high)


@inner
def _fill_equalize(counts: Counts, table: Bytes) -> None:
    total, brightest = 0, 0
    for level in range(256):
        total += counts[level]
        if counts[level] > 0:
            brightest = counts[level]
    # A single level also gives step 0: nothing is left below the brightest.
    step = (total - brightest) // 255
    below = 0
    for level in range(256):
        table[level] = _equalize_level(below, step) if step > 0 else level
        below += counts[level]
