"""MixUp and CutMix: two images into one, by table. numba, CPU, serial.

The partner's weight is one number per batch, so an output value depends on the channel and two levels only:
joint [3, 257 * 257] holds it for every pair, already rounded to the output's type. Level 256 is erased.
For float32 output the sum of two small tables is faster, since they stay in the first-level cache (5.5
against 8 ns a pixel); the joint table then serves erased pixels only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled
from fastpipe.kernels.cpu_output import column_offsets

__all__ = ["LEVELS", "mix_range", "sum_range"]

Bytes = npt.NDArray[np.uint8]
Bits = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]

LEVELS = 257


@compiled
def mix_range(
    images: Bytes,
    out: Bits,
    joint: Bits,
    partner: Numbers,
    flip: Bytes,
    rows: Numbers,
    columns: Numbers,
    width: int,
    region: Numbers,
    boxes: Numbers,
    channels_last: bool,
    erased_only: bool,
    start: int,
    stop: int,
) -> None:
    """Write the pixels of `region` of out[start:stop], at rows x columns of images [B, H*width*3].

    region and boxes[i] (erased): top, left, height, width in pixels of the output. erased_only: nothing but
    the pixels of those boxes, after `sum_range`.
    """
    own, other = np.empty(columns.size, np.int64), np.empty(columns.size, np.int64)
    for i in range(start, stop):
        j = partner[i]
        column_offsets(columns, width, flip[i], own)
        column_offsets(columns, width, flip[j], other)
        if erased_only:
            pass
        elif channels_last:
            _mix_pixels(images[i], images[j], out[i], joint, rows, own, other, width, region)
        else:
            _mix_planes(images[i], images[j], out[i], joint, rows, own, other, width, region)
        for k in (i, j):
            if boxes[k, 2] > 0 and boxes[k, 3] > 0:
                _mix_erased(
                    images[i],
                    images[j],
                    out[i],
                    joint,
                    rows,
                    own,
                    other,
                    width,
                    region,
                    boxes[k],
                    boxes[i],
                    boxes[j],
                    channels_last,
                )


@compiled
def sum_range(
    images: Bytes,
    out: npt.NDArray[np.float32],
    own_table: npt.NDArray[np.float32],
    other_table: npt.NDArray[np.float32],
    partner: Numbers,
    flip: Bytes,
    rows: Numbers,
    columns: Numbers,
    width: int,
    region: Numbers,
    channels_last: bool,
    start: int,
    stop: int,
) -> None:
    """mix_range for float32 without erased pixels: own_table[c, a] + other_table[c, b], both [3, 257]."""
    top, left, box_height, box_width = region
    own, other = np.empty(columns.size, np.int64), np.empty(columns.size, np.int64)
    for i in range(start, stop):
        image, second, target = images[i], images[partner[i]], out[i]
        column_offsets(columns, width, flip[i], own)
        column_offsets(columns, width, flip[partner[i]], other)
        for c in range(3):
            mine, theirs = own_table[c], other_table[c]
            for y in range(top, top + box_height):
                base = 3 * rows[y] * width + c
                first = y * columns.size + left
                step = 3 if channels_last else 1
                begin = 3 * first + c if channels_last else c * rows.size * columns.size + first
                for x in range(box_width):
                    a = image[np.uint32(base + own[left + x])]
                    b = second[np.uint32(base + other[left + x])]
                    target[np.uint32(begin + step * x)] = mine[a] + theirs[b]


@compiled
def _mix_planes(
    image: Bytes,
    partner: Bytes,
    target: Bits,
    joint: Bits,
    rows: Numbers,
    own: Numbers,
    other: Numbers,
    width: int,
    region: Numbers,
) -> None:
    top, left, box_height, box_width = region
    for c in range(3):
        table = joint[c]
        for y in range(top, top + box_height):
            first = (c * rows.size + y) * own.size + left
            line = target[first : first + box_width]
            base = 3 * rows[y] * width + c
            for x in range(box_width):
                a = np.uint32(image[np.uint32(base + own[left + x])])
                b = np.uint32(partner[np.uint32(base + other[left + x])])
                line[x] = table[a * np.uint32(257) + b]


@compiled
def _mix_pixels(
    image: Bytes,
    partner: Bytes,
    target: Bits,
    joint: Bits,
    rows: Numbers,
    own: Numbers,
    other: Numbers,
    width: int,
    region: Numbers,
) -> None:
    top, left, box_height, box_width = region
    for y in range(top, top + box_height):
        base = 3 * rows[y] * width
        for x in range(left, left + box_width):
            q = np.uint32(3 * (y * own.size + x))
            for c in range(3):
                a = np.uint32(image[np.uint32(base + own[x] + c)])
                b = np.uint32(partner[np.uint32(base + other[x] + c)])
                target[q + np.uint32(c)] = joint[c, a * np.uint32(257) + b]


@compiled
def _inside(box: Numbers, y: int, x: int) -> bool:
    return bool(box[0] <= y < box[0] + box[2] and box[1] <= x < box[1] + box[3])


@compiled
def _mix_erased(
    image: Bytes,
    partner: Bytes,
    target: Bits,
    joint: Bits,
    rows: Numbers,
    own: Numbers,
    other: Numbers,
    width: int,
    region: Numbers,
    box: Numbers,
    own_box: Numbers,
    other_box: Numbers,
    channels_last: bool,
) -> None:
    """The pixels of `box` within the region again, where one of the two images is erased."""
    top, left = max(box[0], region[0]), max(box[1], region[1])
    bottom = min(box[0] + box[2], region[0] + region[2])
    right = min(box[1] + box[3], region[1] + region[3])
    for y in range(top, bottom):
        base = 3 * rows[y] * width
        for x in range(left, right):
            own_erased, other_erased = _inside(own_box, y, x), _inside(other_box, y, x)
            for c in range(3):
                a = np.int64(256) if own_erased else np.int64(image[base + own[x] + c])
                b = np.int64(256) if other_erased else np.int64(partner[base + other[x] + c])
                place = 3 * (y * own.size + x) + c if channels_last else (c * rows.size + y) * own.size + x
                target[place] = joint[c, a * 257 + b]
