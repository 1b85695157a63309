"""Antialiased resize in two passes of 22-bit fixed point, as Pillow's Resample.c. numba, CPU, serial."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled, inner
from fastpipe.kernels.cpu.filters import copy_bytes
from fastpipe.kernels.rules import PRECISION

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int32]

_HALF = np.int32(1 << (PRECISION - 1))


@compiled
def resize_range(
    images: Bytes,
    out: Bytes,
    height: int,
    width: int,
    first_rows: Numbers,
    row_weights: Numbers,
    first_columns: Numbers,
    column_weights: Numbers,
    start: int,
    stop: int,
    middle: Bytes,
    total: Numbers,
) -> None:
    """images[start:stop] [B, height*width*3] into out [B, h*w*3].

    The output's row y is made of row_weights[y] (int32 [h, taps], 0 beyond the last) from first_rows[y] on;
    columns alike. Rows are rounded to bytes between the passes; an axis that keeps its size is not filtered.
    Scratch: middle [height * w * 3], total [w * 3].
    """
    out_height, out_width = first_rows.size, first_columns.size
    line = 3 * out_width
    for i in range(start, stop):
        if out_width == width:
            copy_bytes(images[i], middle)
        else:
            _columns(images[i], middle, height, width, first_columns, column_weights)
        if out_height == height:
            copy_bytes(middle, out[i])
            continue
        for y in range(out_height):
            for place in range(line):
                total[place] = _HALF
            for k in range(row_weights.shape[1]):
                weight = row_weights[y, k]
                if weight != 0:
                    begin = (first_rows[y] + k) * line
                    _add(total, middle[begin : begin + line], weight)
            _store(total, out[i, y * line : (y + 1) * line])


@inner
def _add(total: Numbers, row: Bytes, weight: np.int32) -> None:
    for place in range(total.size):
        total[place] += np.int32(row[place]) * weight


@inner
def _store(total: Numbers, target: Bytes) -> None:
    for place in range(total.size):
        level = total[place] >> np.int32(PRECISION)
        target[place] = np.uint8(min(max(level, np.int32(0)), np.int32(255)))


@inner
def _columns(
    image: Bytes, target: Bytes, height: int, width: int, first_columns: Numbers, weights: Numbers
) -> None:
    taps = weights.shape[1]
    for y in range(height):
        row = image[3 * y * width : 3 * (y + 1) * width]
        line = target[3 * y * first_columns.size : 3 * (y + 1) * first_columns.size]
        for x in range(first_columns.size):
            red, green, blue = _HALF, _HALF, _HALF
            p = np.uint32(3 * first_columns[x])
            for k in range(taps):
                weight = weights[x, k]
                red += np.int32(row[p]) * weight
                green += np.int32(row[p + np.uint32(1)]) * weight
                blue += np.int32(row[p + np.uint32(2)]) * weight
                p += np.uint32(3)
            q = np.uint32(3 * x)
            line[q] = np.uint8(min(max(red >> np.int32(PRECISION), np.int32(0)), np.int32(255)))
            line[q + np.uint32(1)] = np.uint8(
                min(max(green >> np.int32(PRECISION), np.int32(0)), np.int32(255))
            )
            line[q + np.uint32(2)] = np.uint8(
                min(max(blue >> np.int32(PRECISION), np.int32(0)), np.int32(255))
            )
