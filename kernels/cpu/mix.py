"""MixUp and CutMix: two images into one, by table. numba, CPU, serial.

The partner's weight is one number per batch, so an output value depends on the channel and two levels only:
joint [3, 257 * 257] holds it for every pair, already rounded to the output's type. Level 256 is erased.
For float32 output the sum of two small tables is faster, because they stay in the first-level cache (5.5
compared with 8 ns a pixel); the joint table then serves only erased pixels.

ids, work, places, mirrored, tabled, tables: what cpu.augment left of the images ids[k]. Pair n is the images
own[n] and other[n], both numbers k, and goes to out[ids[own[n]]].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled, inner
from fastpipe.kernels.cpu.output import column_offsets, fetch

Bytes = npt.NDArray[np.uint8]
Bits = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

LEVELS = 257


@compiled
def sum_images(
    images: Bytes,
    ids: Numbers,
    work: Bytes,
    places: Numbers,
    mirrored: Bytes,
    tabled: Bytes,
    tables: Bytes,
    own: Numbers,
    other: Numbers,
    out: Floats,
    own_levels: Floats,
    other_levels: Floats,
    rows: Numbers,
    columns: Numbers,
    width: int,
    region: Numbers,
    channels_last: bool,
    offsets: Places,
    others: Places,
    mine: Floats,
    theirs: Floats,
    fetched: Bytes,
) -> None:
    """float32 without erased pixels: own_levels[c, a] + other_levels[c, b], both [3, 257], in `region`.

    region: top, left, height, width in pixels of the output, at rows x columns of the images. Scratch:
    offsets, others [w], mine, theirs [768], fetched [1].
    """
    for n in range(own.size):
        i, j = own[n], other[n]
        image = images[ids[i]] if places[i] < 0 else work[places[i]]
        second = images[ids[j]] if places[j] < 0 else work[places[j]]
        target = out[ids[i]]
        column_offsets(columns, width, mirrored[i], offsets)
        column_offsets(columns, width, mirrored[j], others)
        if mirrored[i]:
            fetch(image, fetched)
        if mirrored[j]:
            fetch(second, fetched)
        for place in range(768):
            c, level = place >> 8, np.uint8(place & 255)
            mine[place] = own_levels[c, tables[i, place] if tabled[i] else level]
            theirs[place] = other_levels[c, tables[j, place] if tabled[j] else level]
        _sum_pixels(image, second, target, mine, theirs, rows, offsets, others, width, region, channels_last)


@inner
def _sum_pixels(
    image: Bytes,
    second: Bytes,
    target: Floats,
    mine: Floats,
    theirs: Floats,
    rows: Numbers,
    offsets: Places,
    others: Places,
    width: int,
    region: Numbers,
    channels_last: bool,
) -> None:
    top, left, box_height, box_width = region[0], region[1], region[2], region[3]
    red, green, blue = mine[:256], mine[256:512], mine[512:]
    other_red, other_green, other_blue = theirs[:256], theirs[256:512], theirs[512:]
    step, plane = (3, 1) if channels_last else (1, rows.size * offsets.size)
    for y in range(top, top + box_height):
        base = 3 * rows[y] * width
        first = step * (y * offsets.size + left)
        for x in range(box_width):
            q = np.uint32(first + step * x)
            a, b = np.uint32(base + offsets[left + x]), np.uint32(base + others[left + x])
            target[q] = red[image[a]] + other_red[second[b]]
            target[np.uint32(q + plane)] = green[image[a + 1]] + other_green[second[b + 1]]
            target[np.uint32(q + 2 * plane)] = blue[image[a + 2]] + other_blue[second[b + 2]]


@compiled
def mix_images(
    images: Bytes,
    ids: Numbers,
    work: Bytes,
    places: Numbers,
    mirrored: Bytes,
    tabled: Bytes,
    tables: Bytes,
    own: Numbers,
    other: Numbers,
    out: Bits,
    joint: Bits,
    rows: Numbers,
    columns: Numbers,
    width: int,
    region: Numbers,
    boxes: Numbers,
    channels_last: bool,
    erased_only: bool,
    offsets: Places,
    others: Places,
    mine: Bytes,
    theirs: Bytes,
    area: Numbers,
    nothing: Numbers,
) -> None:
    """Write the pixels of `region` through the joint table.

    region and boxes[image] (erased): top, left, height, width in pixels of the output. erased_only: only
    the pixels of those boxes, after `sum_images`. Scratch: offsets, others [w], mine, theirs [768], area [4];
    nothing: zeros [4].
    """
    for n in range(own.size):
        i, j = own[n], other[n]
        image = images[ids[i]] if places[i] < 0 else work[places[i]]
        second = images[ids[j]] if places[j] < 0 else work[places[j]]
        column_offsets(columns, width, mirrored[i], offsets)
        column_offsets(columns, width, mirrored[j], others)
        for level in range(768):
            mine[level] = tables[i, level] if tabled[i] else np.uint8(level & 255)
            theirs[level] = tables[j, level] if tabled[j] else np.uint8(level & 255)
        own_box, other_box = boxes[ids[i]], boxes[ids[j]]
        # The region first, then each box again: only boxes hold erased levels.
        for part in range(1 if erased_only else 0, 3):
            box = region if part == 0 else (own_box if part == 1 else other_box)
            for axis in range(2):
                first = max(box[axis], region[axis])
                last = min(box[axis] + box[axis + 2], region[axis] + region[axis + 2])
                area[axis], area[axis + 2] = first, max(last - first, 0)
            _mix_area(
                image,
                second,
                out[ids[i]],
                joint,
                rows,
                offsets,
                others,
                mine,
                theirs,
                width,
                area,
                nothing if part == 0 else own_box,
                nothing if part == 0 else other_box,
                channels_last,
            )


@inner
def _mix_area(
    image: Bytes,
    second: Bytes,
    target: Bits,
    joint: Bits,
    rows: Numbers,
    offsets: Places,
    others: Places,
    mine: Bytes,
    theirs: Bytes,
    width: int,
    area: Numbers,
    own_box: Numbers,
    other_box: Numbers,
    channels_last: bool,
) -> None:
    top, left, box_height, box_width = area[0], area[1], area[2], area[3]
    step = 3 if channels_last else 1
    for c in range(3):
        levels = joint[c]
        for y in range(top, top + box_height):
            base = 3 * rows[y] * width + c
            first = y * offsets.size
            begin = 3 * first + c if channels_last else c * rows.size * offsets.size + first
            in_own = own_box[0] <= y < own_box[0] + own_box[2]
            in_other = other_box[0] <= y < other_box[0] + other_box[2]
            for x in range(left, left + box_width):
                a = np.uint32(mine[256 * c + np.int64(image[np.uint32(base + offsets[x])])])
                b = np.uint32(theirs[256 * c + np.int64(second[np.uint32(base + others[x])])])
                if in_own and own_box[1] <= x < own_box[1] + own_box[3]:
                    a = np.uint32(256)
                if in_other and other_box[1] <= x < other_box[1] + other_box[3]:
                    b = np.uint32(256)
                target[np.uint32(begin + step * x)] = levels[a * np.uint32(257) + b]
