"""The last pass over images: mirror, picked rows and columns, table, cast and layout in one; and erasing.

numba, CPU, serial. Outputs are arrays of bits (int32, int16 or uint8 [B, 3*h*w]). The table holds the levels
already rounded to the output's type, so one kernel serves float32, float16 and bfloat16, and nothing is left
to round. The work left by `cpu.augment` goes into the same table and the same order of columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled, inner
from fastpipe.kernels.cpu.filters import copy_bytes

Bytes = npt.NDArray[np.uint8]
Bits = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]


@inner
def column_offsets(columns: Numbers, width: int, flip: int, offsets: Places) -> None:
    """Into `offsets`: where in a row of `width` pixels each of `columns` begins, mirrored where `flip`."""
    for x in range(columns.size):
        offsets[x] = np.int32(3 * (width - 1 - columns[x]) if flip else 3 * columns[x])


@inner
def _level_table(levels: Bits, table: Bytes, tabled: int, combined: Bits) -> None:
    """Into combined [3, 256]: levels[c, table[256 * c + level]], or `levels` where not tabled."""
    for c in range(3):
        for level in range(256):
            combined[c, level] = levels[c, table[256 * c + level]] if tabled else levels[c, level]


@compiled
def finish_images(
    images: Bytes,
    ids: Numbers,
    work: Bytes,
    places: Numbers,
    mirrored: Bytes,
    tabled: Bytes,
    tables: Bytes,
    out: Bits,
    levels: Bits,
    rows: Numbers,
    columns: Numbers,
    width: int,
    channels_last: bool,
    verbatim: bool,
    offsets: Places,
    combined: Bits,
    fetched: Bytes,
) -> None:
    """Write out[ids[k]] from what augment_images left, through `levels` ([3, 256], out's type).

    rows, columns: of the mirrored image. verbatim: an image with nothing left to do is copied as it is
    (uint8, channels last, all rows and columns, levels[c, v] = v). Scratch: offsets [w], combined like
    levels, fetched [1].
    """
    for k in range(ids.size):
        image = images[ids[k]] if places[k] < 0 else work[places[k]]
        target = out[ids[k]]
        if verbatim and not mirrored[k] and not tabled[k]:
            copy_bytes(image, target)
            continue
        column_offsets(columns, width, mirrored[k], offsets)
        _level_table(levels, tables[k], tabled[k], combined)
        if mirrored[k]:
            # Rows are read backwards, which the processor does not prefetch: 3.6 ns a pixel compared with 2.
            fetch(image, fetched)
        if channels_last or levels.itemsize == 4:
            step = 3 if channels_last else 1
            plane = 1 if channels_last else rows.size * columns.size
            _pick_pixels(image, target, combined, rows, offsets, width, step, plane)
        else:
            _pick_planes(image, target, combined, rows, offsets, width)


@inner
def fetch(image: Bytes, fetched: Bytes) -> None:
    """Bring `image` into the cache. fetched: uint8 [1], written so that the loads are not optimised away."""
    total = np.uint8(0)
    for line in range(image.size // 64):
        total ^= image[np.uint32(64 * line)]
    fetched[0] = total


@inner
def _pick_pixels(
    image: Bytes,
    target: Bits,
    table: Bits,
    rows: Numbers,
    offsets: Places,
    width: int,
    step: int,
    plane: int,
) -> None:
    red, green, blue = table[0], table[1], table[2]
    for y in range(rows.size):
        base = 3 * rows[y] * width
        first = step * y * offsets.size
        for x in range(offsets.size):
            q = np.uint32(first + step * x)
            p = np.uint32(base + offsets[x])
            target[q] = red[image[p]]
            target[np.uint32(q + plane)] = green[image[p + 1]]
            target[np.uint32(q + 2 * plane)] = blue[image[p + 2]]


@inner
def _pick_planes(image: Bytes, target: Bits, table: Bits, rows: Numbers, offsets: Places, width: int) -> None:
    # One plane after another: for 16-bit output twice as fast as three store streams (1.1, not 2.1 ns),
    # for 32-bit slower (1.8, not 1.5).
    for c in range(3):
        levels = table[c]
        for y in range(rows.size):
            base = 3 * rows[y] * width + c
            line = target[(c * rows.size + y) * offsets.size : (c * rows.size + y + 1) * offsets.size]
            for x in range(offsets.size):
                line[x] = levels[image[np.uint32(base + offsets[x])]]


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
