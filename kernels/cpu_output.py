"""The last pass over a batch: flip, table, cast and layout in one; and erasing. numba, CPU, serial.

Outputs are arrays of bits (int32, int16 or uint8 [B, 3*H*W]). The table holds the levels already rounded to
the output's type, so one kernel serves float32, float16 and bfloat16, and there is nothing left to round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled
from fastpipe.kernels.cpu_filters import copy_bytes, mirror

__all__ = ["column_offsets", "erase_range", "finish_picked_range", "finish_range", "relayout_range"]

Bytes = npt.NDArray[np.uint8]
Bits = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]


@compiled
def finish_range(
    images: Bytes,
    out: Bits,
    table: Bits,
    flip: Bytes,
    height: int,
    width: int,
    channels_last: bool,
    start: int,
    stop: int,
) -> None:
    """Gather images[start:stop] ([B, H*W*3]) through `table` ([3, 256], out's type) into out."""
    for i in range(start, stop):
        if channels_last:
            _gather_pixels(images[i], out[i], table, flip[i], height, width)
        else:
            _gather_planes(images[i], out[i], table, flip[i], height, width)


@compiled
def _gather_pixels(image: Bytes, target: Bits, table: Bits, flip: int, height: int, width: int) -> None:
    red, green, blue = table[0], table[1], table[2]
    for y in range(height):
        row = y * width
        for x in range(width):
            q = np.uint32(3 * (row + x))
            p = np.uint32(3 * (row + width - 1 - x)) if flip else q
            target[q] = red[image[p]]
            target[q + 1] = green[image[p + 1]]
            target[q + 2] = blue[image[p + 2]]


@compiled
def _gather_planes(image: Bytes, target: Bits, table: Bits, flip: int, height: int, width: int) -> None:
    # One plane after another: for 16-bit output twice as fast as three store streams (1.1 against 2.1 ns).
    for c in range(3):
        levels = table[c]
        for y in range(height):
            row = y * width
            line = target[(c * height + y) * width : (c * height + y + 1) * width]
            for x in range(width):
                p = np.uint32(3 * (row + width - 1 - x) + c) if flip else np.uint32(3 * (row + x) + c)
                line[x] = levels[image[p]]


@compiled
def column_offsets(columns: Numbers, width: int, flip: int, offsets: Numbers) -> None:
    """Into `offsets`: where in a row of `width` pixels each of `columns` begins, mirrored where `flip`."""
    for x in range(columns.size):
        offsets[x] = 3 * (width - 1 - columns[x]) if flip else 3 * columns[x]


@compiled
def finish_picked_range(
    images: Bytes,
    out: Bits,
    table: Bits,
    flip: Bytes,
    rows: Numbers,
    columns: Numbers,
    width: int,
    channels_last: bool,
    start: int,
    stop: int,
) -> None:
    """As finish_range, of the pixels at rows x columns (of the mirrored image where `flip`)."""
    offsets = np.empty(columns.size, np.int64)
    for i in range(start, stop):
        column_offsets(columns, width, flip[i], offsets)
        if channels_last:
            _pick_pixels(images[i], out[i], table, rows, offsets, width)
        else:
            _pick_planes(images[i], out[i], table, rows, offsets, width)


@compiled
def _pick_pixels(
    image: Bytes, target: Bits, table: Bits, rows: Numbers, offsets: Numbers, width: int
) -> None:
    red, green, blue = table[0], table[1], table[2]
    for y in range(rows.size):
        base = 3 * rows[y] * width
        for x in range(offsets.size):
            q = np.uint32(3 * (y * offsets.size + x))
            p = np.uint32(base + offsets[x])
            target[q] = red[image[p]]
            target[q + 1] = green[image[p + 1]]
            target[q + 2] = blue[image[p + 2]]


@compiled
def _pick_planes(
    image: Bytes, target: Bits, table: Bits, rows: Numbers, offsets: Numbers, width: int
) -> None:
    for c in range(3):
        levels = table[c]
        for y in range(rows.size):
            base = 3 * rows[y] * width + c
            line = target[(c * rows.size + y) * offsets.size : (c * rows.size + y + 1) * offsets.size]
            for x in range(offsets.size):
                line[x] = levels[image[np.uint32(base + offsets[x])]]


@compiled
def relayout_range(
    images: Bytes,
    out: Bytes,
    flip: Bytes,
    height: int,
    width: int,
    channels_last: bool,
    start: int,
    stop: int,
) -> None:
    """The same for uint8 output without a table: a copy with flip and layout."""
    for i in range(start, stop):
        if not channels_last:
            _split_planes(images[i], out[i], flip[i], height, width)
        elif flip[i]:
            mirror(images[i], out[i], height, width)
        else:
            copy_bytes(images[i], out[i])


@compiled
def _split_planes(image: Bytes, target: Bytes, flip: int, height: int, width: int) -> None:
    plane = height * width
    for y in range(height):
        row = y * width
        red = target[row : row + width]
        green = target[plane + row : plane + row + width]
        blue = target[2 * plane + row : 2 * plane + row + width]
        for x in range(width):
            p = np.uint32(3 * (row + width - 1 - x)) if flip else np.uint32(3 * (row + x))
            red[x] = image[p]
            green[x] = image[p + 1]
            blue[x] = image[p + 2]


@compiled
def erase_range(
    out: Bits,
    boxes: npt.NDArray[np.int64],
    values: Bits,
    apply: Bytes,
    height: int,
    width: int,
    channels_last: bool,
    start: int,
    stop: int,
) -> None:
    """Fill box i (top, left, height, width) of out[i] with values[i] ([B, 3], out's type) where apply[i]."""
    plane, step = height * width, 3 if channels_last else 1
    for i in range(start, stop):
        if not apply[i]:
            continue
        top, left, box_height, box_width = boxes[i]
        for y in range(top, top + box_height):
            for c in range(3):
                first = 3 * (y * width + left) + c if channels_last else c * plane + y * width + left
                for x in range(box_width):
                    out[i, first + step * x] = values[i, c]
