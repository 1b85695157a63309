"""Statistics of images and the tables made from them, on CUDA.

Statistics are whole numbers, so their order does not matter. The table kernel works on 256 levels per image
and channel, not on pixels, and uses float64 where Pillow does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda  # noqa: TID253

from fastpipe.kernels import rules
from fastpipe.kernels.cuda.device import blend, gray, on_device
from fastpipe.kernels.cuda.layout import OP, SLOT, STATISTICS_PARTS, VALUE, WHOLE_ROW
from fastpipe.kernels.ops import (
    AUTOCONTRAST,
    BRIGHTNESS,
    CONTRAST,
    COUNTED,
    EQUALIZE,
    INVERT,
    POSTERIZE,
    SOLARIZE,
    SOLARIZE_ADD,
)

_autocontrast_level = on_device(rules.autocontrast_level)
_equalize_level = on_device(rules.equalize_level)
_invert_level = on_device(rules.invert_level)
_posterize_level = on_device(rules.posterize_level)
_rounded_mean = on_device(rules.rounded_mean)
_solarize_add_level = on_device(rules.solarize_add_level)
_solarize_level = on_device(rules.solarize_level)


def statistics(images: Any, which: Any, whole: Any, counts: Any, height: Any, width: Any) -> None:
    """Fill counts, int32 [S, STATISTICS_PARTS, 768]: how often each level occurs in a part of the image.

    For contrast the first 256 count the gray levels. A block per part and listed image, which is the slot's.
    """
    shared = cuda.shared.array(768, np.int32)
    slot = np.uint32(cuda.blockIdx.y)
    place = np.uint32(which[slot])
    contrast = whole[np.uint32(place * np.uint32(WHOLE_ROW) + np.uint32(OP))] == CONTRAST
    k = np.uint32(cuda.threadIdx.x)
    while k < np.uint32(768):
        shared[k] = np.int32(0)
        k = np.uint32(k + np.uint32(cuda.blockDim.x))
    cuda.syncthreads()
    step = np.uint32(cuda.gridDim.x * cuda.blockDim.x)
    i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    one = np.int32(1)
    while i < np.uint32(height * width):
        p = np.uint32(np.uint32(3) * np.uint32(place * height * width + i))
        begin = np.int64(p)
        red, green, blue = np.int32(images[begin]), np.int32(images[begin + 1]), np.int32(images[begin + 2])
        if contrast:
            cuda.atomic.add(shared, np.uint32(gray(red, green, blue)), one)
        else:
            cuda.atomic.add(shared, np.uint32(red), one)
            cuda.atomic.add(shared, np.uint32(np.uint32(green) + np.uint32(256)), one)
            cuda.atomic.add(shared, np.uint32(np.uint32(blue) + np.uint32(512)), one)
        i = np.uint32(i + step)
    cuda.syncthreads()
    first = np.uint32(np.uint32(768) * np.uint32(slot * np.uint32(STATISTICS_PARTS) + cuda.blockIdx.x))
    k = np.uint32(cuda.threadIdx.x)
    while k < np.uint32(768):
        counts[np.uint32(first + k)] = shared[k]
        k = np.uint32(k + np.uint32(cuda.blockDim.x))


@on_device
def _stretched(counts: Any, first: Any, level: Any) -> Any:
    """AutoContrast's level of one channel."""
    low, high = np.int32(0), np.int32(255)
    while low < 255 and counts[np.uint32(first + np.uint32(low))] == 0:
        low = np.int32(low + 1)
    while high > 0 and counts[np.uint32(first + np.uint32(high))] == 0:
        high = np.int32(high - 1)
    return _autocontrast_level(level, np.int64(low), np.int64(high))


@on_device
def _equalized(counts: Any, first: Any, level: Any) -> Any:
    """Equalize's level of one channel."""
    total, brightest, below = np.int64(0), np.int64(0), np.int64(0)
    for other in range(256):
        count = np.int64(counts[np.uint32(first + np.uint32(other))])
        below += count if other < level else np.int64(0)
        total += count
        brightest = count if count > 0 else brightest
    step = (total - brightest) // 255
    return _equalize_level(below, step) if step > 0 else level


@on_device
def _mean(counts: Any) -> Any:
    """The rounded mean of the gray levels."""
    total, count = np.int64(0), np.int64(0)
    for level in range(256):
        number = np.int64(counts[np.uint32(level)])
        total += number * level
        count += number
    return np.float32(_rounded_mean(total, count))


@on_device
def _sum_of_parts(counts: Any, slot: Any, entry: Any) -> Any:
    first = np.uint32(slot * np.uint32(STATISTICS_PARTS) * np.uint32(768) + entry)
    total = np.int32(0)
    for part in range(STATISTICS_PARTS):
        total = np.int32(total + counts[np.uint32(first + np.uint32(768) * np.uint32(part))])
    return total


@on_device
def _new_level(op: Any, value: Any, factor: Any, counts: Any, mean: Any, entry: Any) -> Any:
    """One entry of the table. counts: int32 [768] of this image; mean: of its gray levels."""
    level = np.int64(entry & np.uint32(255))
    channel = np.uint32(entry & np.uint32(0x300))
    new = level
    if op == AUTOCONTRAST:
        new = np.int64(_stretched(counts, channel, level))
    elif op == EQUALIZE:
        new = np.int64(_equalized(counts, channel, level))
    elif op == POSTERIZE:
        new = np.int64(_posterize_level(level, value))
    elif op == SOLARIZE:
        new = np.int64(_solarize_level(level, value))
    elif op == SOLARIZE_ADD:
        new = np.int64(_solarize_add_level(level, value))
    elif op == INVERT:
        new = np.int64(_invert_level(level))
    elif op == BRIGHTNESS:
        new = np.int64(blend(np.float32(0), np.float32(level), factor))
    elif op == CONTRAST:
        new = np.int64(blend(mean, np.float32(level), factor))
    return new


def fill_tables(which: Any, whole: Any, reals: Any, counts: Any, tables: Any) -> None:
    """Fill tables uint8 [B, 768], one block per listed image."""
    shared = cuda.shared.array(768, np.int32)
    place = np.uint32(which[np.uint32(cuda.blockIdx.x)])
    row = np.uint32(place * np.uint32(WHOLE_ROW))
    op = whole[np.uint32(row + np.uint32(OP))]
    start, step = np.uint32(cuda.threadIdx.x), np.uint32(cuda.blockDim.x)
    if op in COUNTED:
        slot = np.uint32(whole[np.uint32(row + np.uint32(SLOT))])
        entry = start
        while entry < np.uint32(768):
            shared[entry] = _sum_of_parts(counts, slot, entry)
            entry = np.uint32(entry + step)
    cuda.syncthreads()
    value = np.int64(whole[np.uint32(row + np.uint32(VALUE))])
    factor = reals[place]
    mean = _mean(shared) if op == CONTRAST else np.float32(0)
    entry = start
    while entry < np.uint32(768):
        target = np.uint32(place * np.uint32(768) + entry)
        tables[target] = np.uint8(_new_level(op, value, factor, shared, mean, entry))
        entry = np.uint32(entry + step)
