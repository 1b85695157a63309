"""Pillow's AFFINE transform of one image, nearest and bilinear, size kept. numba, CPU, float64.

Images are flat: uint8 [H*W*3], RGB interleaved. matrix: float64 [6], output to source (see matrices.py).
Pixels whose source lies outside get `fill`, uint8 [3]; bilinear taps are clamped to the image and never
blended with the fill. Spans are found once per row, so the inner loops test no bounds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastpipe.kernels import rules
from fastpipe.kernels.compiled import inlined, inner
from fastpipe.kernels.cpu.bilinear import warp_bilinear
from fastpipe.kernels.cpu.filters import copy_bytes, paint

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]

_fixed_point = inner(rules.fixed_point)


@inner
def warp(
    source: Bytes,
    target: Bytes,
    height: int,
    width: int,
    matrix: Floats,
    fill: Bytes,
    bilinear: bool,
    places: Places,
    weights: Floats,
) -> None:
    """Fill `target`, which must not be `source`. Scratch: `places` [width], `weights` [2 * width].

    The three nearest variants are Pillow's own. They differ in rounding, so each is chosen where Pillow does.
    """
    if bilinear and not _moves_whole_pixels(matrix):
        warp_bilinear(source, target, height, width, matrix, fill, places, weights)
    elif matrix[1] == 0.0 and matrix[3] == 0.0:
        _nearest_scaled(source, target, height, width, matrix, fill, places)
    elif _fits_fixed_point(matrix, height, width):
        _nearest_fixed(source, target, height, width, matrix, fill)
    else:
        _nearest_float(source, target, height, width, matrix, fill)


@inlined
def _moves_whole_pixels(matrix: Floats) -> bool:
    """Whether bilinear weights are all 0, and so is every rounding: nearest gives the same bytes."""
    if matrix[0] != 1.0 or matrix[1] != 0.0 or matrix[3] != 0.0 or matrix[4] != 1.0:
        return False
    return bool(matrix[2] == math.floor(matrix[2]) and matrix[5] == math.floor(matrix[5]))


@inner
def _copy_pixel(source: Bytes, target: Bytes, first: int, second: int) -> None:
    p, q = np.uint32(first), np.uint32(second)
    target[q] = source[p]
    target[q + 1] = source[p + 1]
    target[q + 2] = source[p + 2]


@inner
def _nearest_scaled(
    source: Bytes, target: Bytes, height: int, width: int, matrix: Floats, fill: Bytes, columns: Places
) -> None:
    # Pillow steps by repeated addition here; a product would round differently.
    start, stop = width, 0
    x_in = matrix[2] + matrix[0] * 0.5
    for x in range(width):
        if 0.0 <= x_in < width:
            columns[x] = int(x_in)
            start, stop = min(start, x), x + 1
        x_in += matrix[0]
    stop = max(start, stop)
    contiguous = stop > start and columns[stop - 1] - columns[start] == stop - 1 - start
    y_in = matrix[5] + matrix[4] * 0.5
    for y in range(height):
        row = 3 * width * y
        if 0.0 <= y_in < height:
            source_row = 3 * width * int(y_in)
            paint(target, row, start, fill)
            if contiguous:
                first = source_row + 3 * columns[start]
                length = 3 * (stop - start)
                begin = row + 3 * start
                copy_bytes(source[first : first + length], target[begin : begin + length])
            else:
                for x in range(start, stop):
                    _copy_pixel(source, target, source_row + 3 * columns[x], row + 3 * x)
            paint(target, row + 3 * stop, width - stop, fill)
        else:
            paint(target, row, width, fill)
        y_in += matrix[4]


@inner
def _fits_fixed_point(matrix: Floats, height: int, width: int) -> bool:
    for y in (0, height):
        for x in (0, width):
            if not abs(x * matrix[0] + y * matrix[1] + matrix[2]) < 32768.0:
                return False
            if not abs(x * matrix[3] + y * matrix[4] + matrix[5]) < 32768.0:
                return False
    return True


@inner
def _fixed_span(step: int, offset: int, size: int, width: int) -> tuple[int, int]:
    """The x in 0..width with 0 <= step * x + offset < size << 16, as (start, stop)."""
    top = (size << 16) - 1
    if step > 0:
        return max(0, -(offset // step)), min(width, (top - offset) // step + 1)
    if step < 0:
        return max(0, -((top - offset) // -step)), min(width, offset // -step + 1)
    if 0 <= offset <= top:
        return 0, width
    return 0, 0


@inner
def _nearest_fixed(
    source: Bytes, target: Bytes, height: int, width: int, matrix: Floats, fill: Bytes
) -> None:
    xx, xy = _fixed_point(matrix[0]), _fixed_point(matrix[1])
    yx, yy = _fixed_point(matrix[3]), _fixed_point(matrix[4])
    x_row = _fixed_point(matrix[2] + matrix[0] * 0.5 + matrix[1] * 0.5)
    y_row = _fixed_point(matrix[5] + matrix[3] * 0.5 + matrix[4] * 0.5)
    for y in range(height):
        row = 3 * width * y
        x_start, x_stop = _fixed_span(xx, x_row, width, width)
        y_start, y_stop = _fixed_span(yx, y_row, height, width)
        start = min(max(x_start, y_start), width)
        stop = max(start, min(x_stop, y_stop))
        paint(target, row, start, fill)
        for x in range(start, stop):
            pixel = ((y_row + yx * x) >> 16) * width + ((x_row + xx * x) >> 16)
            _copy_pixel(source, target, 3 * pixel, row + 3 * x)
        paint(target, row + 3 * stop, width - stop, fill)
        x_row += xy
        y_row += yy


@inner
def _nearest_float(
    source: Bytes, target: Bytes, height: int, width: int, matrix: Floats, fill: Bytes
) -> None:
    # For coordinates beyond 16.16 fixed point. Steps by repeated addition, as Pillow does.
    x_row = matrix[2] + matrix[0] * 0.5 + matrix[1] * 0.5
    y_row = matrix[5] + matrix[3] * 0.5 + matrix[4] * 0.5
    for y in range(height):
        row = 3 * width * y
        x_in, y_in = x_row, y_row
        for x in range(width):
            if 0.0 <= x_in < width and 0.0 <= y_in < height:
                _copy_pixel(source, target, 3 * (int(y_in) * width + int(x_in)), row + 3 * x)
            else:
                paint(target, row + 3 * x, 1, fill)
            x_in += matrix[0]
            y_in += matrix[3]
        x_row += matrix[1]
        y_row += matrix[4]
