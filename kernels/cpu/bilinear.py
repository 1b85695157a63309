"""Pillow's bilinear AFFINE transform of one image. numba, CPU, coordinates in float64.

Arguments as in cpu/warp.py. Each row is fill, clamped taps, free taps, clamped taps, fill; the spans are
found once per row, so that the long loop in the middle tests no bounds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastpipe.kernels import rules
from fastpipe.kernels.compiled import inlined, inner
from fastpipe.kernels.cpu.filters import paint
from fastpipe.kernels.cpu.vector import blend_four, blend_two

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]

_coordinate = inlined(rules.affine_coordinate)
_lerp = inlined(rules.lerp)


@inner
def _crossing(a: float, b: float, c: float, y: float, bound: float, width: int) -> int:
    """The first x in 0..width whose coordinate is >= `bound` for a > 0, < `bound` for a < 0."""
    # The estimate is off by rounding only; the coordinate itself, as rounded, decides.
    x, rising = int(min(max((bound - c - b * y) / a - 0.5, 0.0), float(width))), a > 0.0
    while x > 0 and (_coordinate(a, b, c, x - 1 + 0.5, y) >= bound) == rising:
        x -= 1
    while x < width and (_coordinate(a, b, c, x + 0.5, y) >= bound) != rising:
        x += 1
    return x


@inner
def _span(a: float, b: float, c: float, y: float, low: float, high: float, width: int) -> tuple[int, int]:
    """The x in 0..width with low <= coordinate < high, as (start, stop); stop >= start."""
    if a != 0.0:
        start = _crossing(a, b, c, y, low if a > 0.0 else high, width)
        return start, max(start, _crossing(a, b, c, y, high if a > 0.0 else low, width))
    if low <= _coordinate(a, b, c, 0.5, y) < high:
        return 0, width
    return 0, 0


@inner
def warp_bilinear(
    source: Bytes,
    target: Bytes,
    height: int,
    width: int,
    matrix: Floats,
    fill: Bytes,
    places: Places,
    weights: Floats,
) -> None:
    """Fill `target`. Scratch: `places` [width], `weights` [2 * width]."""
    a, b, c = matrix[0], matrix[1], matrix[2]
    d, e, f = matrix[3], matrix[4], matrix[5]
    for row in range(height):
        y = row + 0.5
        offset = 3 * width * row
        x_start, x_stop = _span(a, b, c, y, 0.0, float(width), width)
        y_start, y_stop = _span(d, e, f, y, 0.0, float(height), width)
        start = max(x_start, y_start)
        stop = max(start, min(x_stop, y_stop))
        # Between these no tap needs clamping: all four lie in the image.
        x_start, x_stop = _span(a, b, c, y, 0.5, width - 0.5, width)
        y_start, y_stop = _span(d, e, f, y, 0.5, height - 0.5, width)
        inner = min(max(start, x_start, y_start), stop)
        # The last pixel belongs to the edge: an inner store also covers one byte of the next pixel.
        outer = max(inner, min(stop, x_stop, y_stop) - 1)
        paint(target, offset, start, fill)
        _bilinear_edge(source, target, height, width, matrix, row, start, inner)
        _bilinear_inside(source, target, width, matrix, row, inner, outer, places, weights)
        _bilinear_edge(source, target, height, width, matrix, row, outer, stop)
        paint(target, offset + 3 * stop, width - stop, fill)


@inner
def _bilinear_edge(
    source: Bytes, target: Bytes, height: int, width: int, matrix: Floats, row: int, start: int, stop: int
) -> None:
    for column in range(start, stop):
        x = _coordinate(matrix[0], matrix[1], matrix[2], column + 0.5, row + 0.5) - 0.5
        y = _coordinate(matrix[3], matrix[4], matrix[5], column + 0.5, row + 0.5) - 0.5
        x_floor, y_floor = math.floor(x), math.floor(y)
        x_weight, y_weight = x - x_floor, y - y_floor
        left, right = max(x_floor, 0), min(x_floor + 1, width - 1)
        upper, lower = max(y_floor, 0), min(y_floor + 1, height - 1)
        for channel in range(3):
            above = _lerp(
                float(source[3 * (upper * width + left) + channel]),
                float(source[3 * (upper * width + right) + channel]),
                x_weight,
            )
            below = _lerp(
                float(source[3 * (lower * width + left) + channel]),
                float(source[3 * (lower * width + right) + channel]),
                x_weight,
            )
            target[3 * (row * width + column) + channel] = np.uint8(_lerp(above, below, y_weight))


@inner
def _bilinear_inside(
    source: Bytes,
    target: Bytes,
    width: int,
    matrix: Floats,
    row: int,
    start: int,
    stop: int,
    places: Places,
    weights: Floats,
) -> None:
    """Coordinates in a separate loop, which LLVM vectorises."""
    stride, count, first = 3 * width, stop - start, 3 * (width * row + start)
    x_weights, y_weights = weights[:width], weights[width:]
    _place_taps(matrix, width, row, start, count, places, x_weights, y_weights)
    # A weight of 0 keeps the first tap's bits: shears and moves along one axis need only two taps.
    if matrix[3] == 0.0 and matrix[4] == 1.0 and matrix[5] == math.floor(matrix[5]):
        for i in range(count):
            blend_two(source, places[i], 3, x_weights[i], target, first + 3 * i)
    elif matrix[0] == 1.0 and matrix[1] == 0.0 and matrix[2] == math.floor(matrix[2]):
        for i in range(count):
            blend_two(source, places[i], stride, y_weights[i], target, first + 3 * i)
    else:
        for i in range(count):
            blend_four(source, places[i], stride, x_weights[i], y_weights[i], target, first + 3 * i)


@inner
def _place_taps(
    matrix: Floats,
    width: int,
    row: int,
    start: int,
    count: int,
    places: Places,
    x_weights: Floats,
    y_weights: Floats,
) -> None:
    """Put the byte of the upper left tap into `places`, and the weights into the others."""
    a, b, c, d, e, f = matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]
    for i in range(count):
        column = float(np.int32(start + i)) + 0.5
        x = _coordinate(a, b, c, column, row + 0.5) - 0.5
        y = _coordinate(d, e, f, column, row + 0.5) - 0.5
        # Not negative here, so truncation equals floor.
        x_floor, y_floor = np.int32(x), np.int32(y)
        places[i] = np.int32(3 * (width * y_floor + x_floor))
        x_weights[i] = x - x_floor
        y_weights[i] = y - y_floor
