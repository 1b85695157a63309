"""The last pass over a batch that changes its size or mixes images, on CUDA: one output pixel per thread.

images: uint8 NHWC, height x width. flags: int32 [B], the images to mirror. rows, columns: int32, the pixels
to take after mirroring. out: the bits of the values. Elements of an output pixel lie `channel_step` apart,
pixels `pixel_step`. With whole numbers and one float32 addition, the bytes equal the CPU kernels'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda  # noqa: TID253

from fastpipe.kernels.cuda.device import mirrored, on_device, pixel_offset, put, target_of
from fastpipe.kernels.cuda.layout import LEVELS
from fastpipe.kernels.rules import PRECISION

_HALF = np.int32(1 << (PRECISION - 1))
_SHARES = 2 * 3 * LEVELS


def picked(
    images: Any,
    norm: Any,
    flags: Any,
    rows: Any,
    columns: Any,
    out: Any,
    height: Any,
    width: Any,
    out_height: Any,
    out_width: Any,
    pixel_step: Any,
    channel_step: Any,
) -> None:
    """The value of the level at rows[y], columns[x]."""
    x = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    if x < out_width and y < out_height:
        place = np.uint32(cuda.blockIdx.z)
        column = mirrored(np.uint32(columns[x]), width, flags[place])
        p = np.int64(pixel_offset(place, np.uint32(rows[y]), column, height, width))
        target = target_of(place, y, x, out_height, out_width, pixel_step)
        put(norm, out, target, channel_step, images[p], images[p + 1], images[p + 2])


@on_device
def _level(total: Any) -> Any:
    """A weighted sum as a level; weights are never negative."""
    return np.uint32(min(np.int32(total >> np.int32(PRECISION)), np.int32(255)))


def resize_columns(
    images: Any,
    flags: Any,
    rows: Any,
    columns: Any,
    filters: Any,
    out: Any,
    height: Any,
    width: Any,
    kept_height: Any,
    new_width: Any,
    taps: Any,
) -> None:
    """Each kept row filtered to new_width pixels: uint8 NHWC, kept_height x new_width.

    filters: int32 [new_width, 1 + taps], the first of the kept columns, then weights.
    """
    x = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    if x < new_width and y < kept_height:
        place = np.uint32(cuda.blockIdx.z)
        flip = flags[place]
        line = pixel_offset(place, np.uint32(rows[y]), np.uint32(0), height, width)
        entry = np.uint32(x * np.uint32(taps + np.uint32(1)))
        first = np.uint32(filters[entry])
        red, green, blue = _HALF, _HALF, _HALF
        k = np.uint32(0)
        while k < taps:
            weight = np.int32(filters[np.uint32(entry + k + np.uint32(1))])
            column = mirrored(np.uint32(columns[np.uint32(first + k)]), width, flip)
            p = np.int64(np.uint32(line + np.uint32(3) * column))
            red = np.int32(red + np.int32(images[p]) * weight)
            green = np.int32(green + np.int32(images[p + 1]) * weight)
            blue = np.int32(blue + np.int32(images[p + 2]) * weight)
            k = np.uint32(k + np.uint32(1))
        target = np.int64(pixel_offset(place, y, x, kept_height, new_width))
        out[target] = np.uint8(_level(red))
        out[target + 1] = np.uint8(_level(green))
        out[target + 2] = np.uint8(_level(blue))


def resize_rows(
    images: Any,
    norm: Any,
    filters: Any,
    out: Any,
    height: Any,
    width: Any,
    new_height: Any,
    taps: Any,
    pixel_step: Any,
    channel_step: Any,
) -> None:
    """Each column filtered to new_height pixels, then the value of the level.

    filters: int32 [new_height, 1 + taps], the first row, then weights.
    """
    x = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    if x < width and y < new_height:
        place = np.uint32(cuda.blockIdx.z)
        entry = np.uint32(y * np.uint32(taps + np.uint32(1)))
        source = pixel_offset(place, np.uint32(filters[entry]), x, height, width)
        red, green, blue = _HALF, _HALF, _HALF
        k = np.uint32(0)
        while k < taps:
            weight = np.int32(filters[np.uint32(entry + k + np.uint32(1))])
            p = np.int64(source)
            red = np.int32(red + np.int32(images[p]) * weight)
            green = np.int32(green + np.int32(images[p + 1]) * weight)
            blue = np.int32(blue + np.int32(images[p + 2]) * weight)
            source = np.uint32(source + np.uint32(3) * width)
            k = np.uint32(k + np.uint32(1))
        target = target_of(place, y, x, new_height, width, pixel_step)
        put(norm, out, target, channel_step, _level(red), _level(green), _level(blue))


@on_device
def _to_float32(value: Any) -> Any:
    return np.float32(value).view(np.uint32)


@on_device
def _to_float16(value: Any) -> Any:
    return np.float16(value).view(np.uint16)


@on_device
def _to_bfloat16(value: Any) -> Any:
    """To the nearest, ties to even: the upper half of the bits after adding just under half of the lower."""
    bits = np.uint32(np.float32(value).view(np.uint32))
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


ROUNDINGS = {"float32": _to_float32, "float16": _to_float16, "bfloat16": _to_bfloat16}
"""By dtype: the bits of a float32 value rounded to it."""


@on_device
def _is_inside(boxes: Any, place: Any, y: Any, x: Any) -> Any:
    """Whether the pixel is erased. A negative difference is a huge unsigned one."""
    box = np.int64(np.uint32(place << np.uint32(2)))
    down, right = np.uint32(y - np.uint32(boxes[box])), np.uint32(x - np.uint32(boxes[box + 1]))
    return down < np.uint32(boxes[box + 2]) and right < np.uint32(boxes[box + 3])


def mixed(dtype: str) -> Callable[..., None]:
    """The kernel that writes own + partner's value, added in float32 and rounded once to `dtype`."""
    rounded = ROUNDINGS[dtype]

    def mix_two(
        images: Any,
        shares: Any,
        flags: Any,
        partner: Any,
        boxes: Any,
        rows: Any,
        columns: Any,
        out: Any,
        height: Any,
        width: Any,
        out_height: Any,
        out_width: Any,
        top: Any,
        left: Any,
        box_height: Any,
        box_width: Any,
        pixel_step: Any,
        channel_step: Any,
    ) -> None:
        # What each level adds as one's own, then as the partner's; the last of 257 is the erased one.
        shared = cuda.shared.array(_SHARES, np.float32)
        k = np.uint32(cuda.threadIdx.x)
        while k < np.uint32(_SHARES):
            shared[k] = shares[k]
            k = np.uint32(k + np.uint32(cuda.blockDim.x))
        cuda.syncthreads()
        place = np.uint32(cuda.blockIdx.y)
        other = np.uint32(partner[place])
        own_flip, other_flip = flags[place], flags[other]
        i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        while i < np.uint32(box_height * box_width):
            line = np.uint32(i // box_width)
            x = np.uint32(np.uint32(i - line * box_width) + left)
            y = np.uint32(line + top)
            row, column = np.uint32(rows[y]), np.uint32(columns[x])
            p = np.int64(pixel_offset(place, row, mirrored(column, width, own_flip), height, width))
            q = np.int64(pixel_offset(other, row, mirrored(column, width, other_flip), height, width))
            own_erased, other_erased = _is_inside(boxes, place, y, x), _is_inside(boxes, other, y, x)
            target = target_of(place, y, x, out_height, out_width, pixel_step)
            for c in range(3):
                a = np.uint32(256) if own_erased else np.uint32(images[p + c])
                b = np.uint32(256) if other_erased else np.uint32(images[q + c])
                mine = shared[np.uint32(a + np.uint32(c * LEVELS))]
                theirs = shared[np.uint32(b + np.uint32((3 + c) * LEVELS))]
                out[np.uint32(target + np.uint32(c) * channel_step)] = rounded(np.float32(mine + theirs))
            i = np.uint32(i + cuda.gridDim.x * cuda.blockDim.x)

    return mix_two
