"""The numbers of a CUDA batch, filled in on the host: `cuda.plan.make_plan`, compiled. numba, CPU, serial.

    count_plan -> the path of each image, the length of each list, the length of the maps
    fill_plan  -> rows, factors, maps and lists into one buffer of that size

Everything is float64, in the order of Pillow's own arithmetic; it runs without the GIL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled, inner
from fastpipe.kernels.cuda.layout import (
    FILL,
    FIXED,
    FLIP,
    KIND,
    LINE_MAPS,
    LINES,
    MATRIX,
    OP,
    PIXELS,
    SLOT,
    VALUE,
    WHOLE_ROW,
)
from fastpipe.kernels.ops import AFFINE, BLENDS, COUNTED, VALUE_OPS, WHOLE_OPS

Ints = npt.NDArray[np.int64]
Wholes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Number = Any

# The paths of an image, as bits: its lists, in the order of cuda.plan.PATHS.
_COUNTED, _TABLE, _BILINEAR, _NEAREST, _BLENDED = 1, 2, 4, 8, 16
_NUM_PATHS = 5
_FAR = 1e9


@inner
def _fixed(value: Number) -> Number:
    """16.16 fixed point (rules.fixed_point)."""
    return np.int64(np.floor(min(max(value, -_FAR), _FAR) * 65536.0 + 0.5))


@inner
def _whole_moves(m: Floats) -> Number:
    """Whether all bilinear weights are 0, so the cheaper nearest gives the same bytes."""
    straight = m[0] == 1.0 and m[1] == 0.0 and m[3] == 0.0 and m[4] == 1.0
    return straight and m[2] == np.floor(m[2]) and m[5] == np.floor(m[5])


@inner
def _paths(op: int, m: Floats, smooth: bool) -> int:
    if op == AFFINE:
        return _BILINEAR if smooth and not _whole_moves(m) else _NEAREST
    if op in BLENDS:
        return _BLENDED
    return _TABLE | (_COUNTED if op in COUNTED else 0)


@inner
def _small(m: Floats, height: int, width: int) -> bool:
    """Whether Pillow takes fixed point. Beyond, it walks in float64."""
    for corner in range(4):
        x, y = np.float64((corner & 1) * width), np.float64((corner >> 1) * height)
        if not (abs(x * m[0] + y * m[1] + m[2]) < 32768.0 and abs(x * m[3] + y * m[4] + m[5]) < 32768.0):
            return False
    return True


@inner
def _fits(a: Number, b: Number, c: Number, height: int, width: int) -> bool:
    """Whether the kernel's 32-bit sums do not wrap (almost always where `_small`)."""
    for corner in range(4):
        x, y = np.int64((corner & 1) * (width - 1)), np.int64((corner >> 1) * (height - 1))
        value = x * a + y * b + c
        if not -(2**31) <= value < 2**31:
            return False
    return True


@inner
def _kind(m: Floats, height: int, width: int) -> int:
    """How a nearest warp finds its pixels: LINES, PIXELS, or 0 for fixed point."""
    if m[1] == 0.0 and m[3] == 0.0:
        return LINES
    x_row, y_row = _fixed(m[2] + m[0] * 0.5 + m[1] * 0.5), _fixed(m[5] + m[3] * 0.5 + m[4] * 0.5)
    if (
        _small(m, height, width)
        and _fits(_fixed(m[0]), _fixed(m[1]), x_row, height, width)
        and _fits(_fixed(m[3]), _fixed(m[4]), y_row, height, width)
    ):
        return 0
    return PIXELS


@compiled
def count_plan(
    codes: npt.NDArray[np.int16],
    matrices: Floats,
    interpolations: Bytes,
    height: int,
    width: int,
    paths: Bytes,
    kinds: Bytes,
    lengths: Ints,
) -> int:
    """Fill paths, kinds [D, B] and lengths [D, 5]; return how many numbers the maps take."""
    num, depth = codes.shape
    maps = 0
    for level in range(depth):
        for path in range(_NUM_PATHS):
            lengths[level, path] = 0
        for i in range(num):
            taken = _paths(codes[i, level], matrices[i, level], interpolations[i, level] == 1)
            paths[level, i], kinds[level, i] = taken, 0
            for path in range(_NUM_PATHS):
                lengths[level, path] += (taken >> path) & 1
            if taken == _NEAREST:
                kind = _kind(matrices[i, level], height, width)
                kinds[level, i] = kind
                if kind == LINES:
                    maps += width + height
                elif kind == PIXELS:
                    maps += 2 * height * width
    return maps


@inner
def _inside(coordinate: float, size: int) -> Number:
    """The pixel of a coordinate, -1 outside of 0..size."""
    return np.int64(coordinate) if 0.0 <= coordinate < size else np.int64(-1)


@inner
def _fill_lines(m: Floats, height: int, width: int, out: Wholes) -> None:
    """Source columns, then source rows, each rounded at every addition as Pillow's."""
    at = m[2] + m[0] * 0.5
    for x in range(width):
        out[x] = _inside(at, width)
        at += m[0]
    at = m[5] + m[4] * 0.5
    for y in range(height):
        out[width + y] = _inside(at, height)
        at += m[4]


@inner
def _fill_pixels(m: Floats, height: int, width: int, out: Wholes) -> None:
    """Source column and row of each pixel: by fixed point in 64 bits, or by Pillow's walk in float64."""
    if _small(m, height, width):
        a, b, d, e = _fixed(m[0]), _fixed(m[1]), _fixed(m[3]), _fixed(m[4])
        c, f = _fixed(m[2] + m[0] * 0.5 + m[1] * 0.5), _fixed(m[5] + m[3] * 0.5 + m[4] * 0.5)
        for y in range(height):
            for x in range(width):
                place = 2 * (y * width + x)
                out[place] = min(max((c + a * x + b * y) >> 16, -1), width)
                out[place + 1] = min(max((f + d * x + e * y) >> 16, -1), height)
        return
    x_row, y_row = m[2] + m[0] * 0.5 + m[1] * 0.5, m[5] + m[3] * 0.5 + m[4] * 0.5
    for y in range(height):
        x_at, y_at = x_row, y_row
        for x in range(width):
            place = 2 * (y * width + x)
            out[place], out[place + 1] = _inside(x_at, width), _inside(y_at, height)
            x_at += m[0]
            y_at += m[3]
        x_row += m[1]
        y_row += m[4]


@inner
def _whole_value(op: int, value: float) -> Number:
    """`value` if a whole number is enough."""
    if op in WHOLE_OPS:
        return np.int64(min(max(np.ceil(value), -255.0), 256.0))
    return np.int64(0)


@inner
def _fill_row(
    row: Wholes, reals: Floats, op: int, value: float, m: Floats, path: int, kind: int, start: int
) -> None:
    """The numbers of one image at one depth; reals is the same memory as float64."""
    row[OP], row[VALUE] = op, _whole_value(op, value)
    if path == _BILINEAR:
        for place in range(6):
            reals[MATRIX + place] = m[place]
    elif path == _NEAREST:
        row[KIND] = kind
        if kind != 0:
            row[LINE_MAPS] = start
        if kind != LINES:
            row[FIXED], row[FIXED + 1] = _fixed(m[0]), _fixed(m[1])
            row[FIXED + 2] = _fixed(m[2] + m[0] * 0.5 + m[1] * 0.5)
            row[FIXED + 3], row[FIXED + 4] = _fixed(m[3]), _fixed(m[4])
            row[FIXED + 5] = _fixed(m[5] + m[3] * 0.5 + m[4] * 0.5)


@compiled
def fill_plan(
    codes: npt.NDArray[np.int16],
    values: Floats,
    matrices: Floats,
    fills: Bytes,
    flip: Bytes,
    height: int,
    width: int,
    paths: Bytes,
    kinds: Bytes,
    lengths: Ints,
    rows: Wholes,
    row_reals: Floats,
    reals: npt.NDArray[np.float32],
    maps: Wholes,
    lists: Wholes,
) -> None:
    """Fill rows [D, B, WHOLE_ROW] (row_reals: the same as float64), reals [D, B], maps and lists.

    Maps of one depth: those of lines first, then those of pixels, as the kernels find them by LINE_MAPS.
    """
    num, depth = codes.shape
    start, first = 0, 0
    for level in range(depth):
        for wanted in (LINES, PIXELS, 0):
            for i in range(num):
                path, kind = paths[level, i], kinds[level, i]
                if kind != wanted:
                    continue
                row, m = rows[level, i], matrices[i, level]
                for place in range(WHOLE_ROW):
                    row[place] = 0
                for channel in range(3):
                    row[FILL + channel] = fills[i, channel]
                row[FLIP] = flip[i] if level == 0 else 0
                _fill_row(row, row_reals[level, i], codes[i, level], values[i, level], m, path, kind, start)
                reals[level, i] = values[i, level] if codes[i, level] in VALUE_OPS else 0.0
                if kind == LINES:
                    _fill_lines(m, height, width, maps[start : start + width + height])
                    start += width + height
                elif kind == PIXELS:
                    _fill_pixels(m, height, width, maps[start : start + 2 * height * width])
                    start += 2 * height * width
        for path in range(_NUM_PATHS):
            placed = 0
            for i in range(num):
                if (paths[level, i] >> path) & 1:
                    lists[first + placed] = i
                    if path == 0:  # kernels find the counts of an image by its place in this list
                        rows[level, i, SLOT] = placed
                    placed += 1
            first += lengths[level, path]
