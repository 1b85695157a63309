"""Warps, colour, sharpness and erasing on CUDA: one pixel per thread, any size and layout.

images: uint8 NHWC. norm: the bits of the output's value of each level [768]. which: the images to do.
whole, longs, maps: what `cuda_layout.py` says; reals: a factor per image. Elements of an output pixel lie
`channel_step` apart, pixels `pixel_step`. Coordinates are whole numbers, in fixed point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda  # noqa: TID253

from fastpipe.kernels.cuda_device import blend, gray, mirrored, on_device, pixel_offset, smooth
from fastpipe.kernels.cuda_layout import (
    FILL,
    FIXED,
    FLIP,
    KIND,
    LINE_MAPS,
    LINES,
    LONG_FIXED,
    LONG_ROW,
    OP,
    PIXELS,
    WHOLE_ROW,
)
from fastpipe.kernels.ops import COLOR

__all__ = ["blended", "erase_box", "warp_bilinear", "warp_nearest"]


@on_device
def _number(numbers: Any, row: Any, index: Any) -> Any:
    return numbers[np.int64(row) + index]


@on_device
def _put(norm: Any, out: Any, target: Any, channel_step: Any, red: Any, green: Any, blue: Any) -> None:
    out[target] = norm[np.int64(np.uint32(red))]
    target = np.uint32(target + channel_step)
    out[target] = norm[np.int64(np.uint32(green)) + 256]
    target = np.uint32(target + channel_step)
    out[target] = norm[np.int64(np.uint32(blue)) + 512]


@on_device
def _target(place: Any, y: Any, x: Any, height: Any, width: Any, pixel_step: Any) -> Any:
    pixel = np.uint32(y * width + x)
    return np.uint32(place * np.uint32(3) * height * width + pixel * pixel_step)


def warp_nearest(
    images: Any,
    norm: Any,
    which: Any,
    whole: Any,
    maps: Any,
    out: Any,
    height: Any,
    width: Any,
    pixel_step: Any,
    channel_step: Any,
) -> None:
    """The pixel that the map points at, else the fill."""
    x = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    if x < width and y < height:
        place = np.uint32(which[np.uint32(cuda.blockIdx.z)])
        row = np.uint32(place * np.uint32(WHOLE_ROW))
        kind = _number(whole, row, KIND)
        begin = np.uint32(_number(whole, row, LINE_MAPS))
        if kind == LINES:
            column = maps[np.uint32(begin + x)]
            line = maps[np.uint32(begin + width + y)]
        elif kind == PIXELS:
            pair = np.uint32(begin + np.uint32(2) * np.uint32(y * width + x))
            column = maps[pair]
            line = maps[np.uint32(pair + np.uint32(1))]
        else:
            column = _fixed(whole, np.int64(row) + FIXED, x, y)
            line = _fixed(whole, np.int64(row) + FIXED + 3, x, y)
        red = np.uint32(_number(whole, row, FILL))
        green = np.uint32(_number(whole, row, FILL + 1))
        blue = np.uint32(_number(whole, row, FILL + 2))
        # A negative coordinate is a huge unsigned one.
        if np.uint32(column) < width and np.uint32(line) < height:
            flip = _number(whole, row, FLIP)
            p = pixel_offset(place, np.uint32(line), mirrored(np.uint32(column), width, flip), height, width)
            first = np.int64(p)
            red, green = np.uint32(images[first]), np.uint32(images[first + 1])
            blue = np.uint32(images[first + 2])
        target = _target(place, y, x, height, width, pixel_step)
        _put(norm, out, target, channel_step, red, green, blue)


@on_device
def _fixed(whole: Any, first: Any, x: Any, y: Any) -> Any:
    """One source coordinate from 16.16 fixed point."""
    per_column, per_row = _number(whole, first, 0), _number(whole, first, 1)
    origin = _number(whole, first, 2)
    return np.int32(np.int32(origin + per_column * np.int32(x) + per_row * np.int32(y)) >> np.int32(16))


@on_device
def _long_fixed(longs: Any, first: Any, x: Any, y: Any) -> Any:
    """One source coordinate in 32.32 fixed point."""
    per_column, per_row = _number(longs, first, 0), _number(longs, first, 1)
    origin = _number(longs, first, 2)
    return np.int64(origin + per_column * np.int64(x) + per_row * np.int64(y))


@on_device
def _wide_lerp(start: Any, end: Any, weight: Any) -> Any:
    """start + (end - start) * weight with 31 more bits than start and end; one wide multiply-add."""
    change = np.int64(np.int32(end - start)) * np.int64(weight)
    return np.int64((np.int64(start) << np.int64(31)) + change)


@on_device
def _mixed(images: Any, taps: Any, channel: Any, x_weight: Any, y_weight: Any) -> Any:
    """The truncated level between four taps: offsets of upper left, upper right, lower left, lower right."""
    a, b = np.int32(images[taps[0] + channel]), np.int32(images[taps[1] + channel])
    c, d = np.int32(images[taps[2] + channel]), np.int32(images[taps[3] + channel])
    # Eight bits are dropped so that the second product fits into 64: 2^-23 of a level.
    above = np.int32(_wide_lerp(a, b, x_weight) >> np.int64(8))
    below = np.int32(_wide_lerp(c, d, x_weight) >> np.int64(8))
    return np.uint32(_wide_lerp(above, below, y_weight) >> np.int64(54))


@on_device
def _weight(coordinate: Any) -> Any:
    """The fraction of a 32.32 coordinate in 31 bits."""
    return np.int32((coordinate & np.int64(0xFFFFFFFF)) >> np.int64(1))


def warp_bilinear(
    images: Any,
    norm: Any,
    which: Any,
    whole: Any,
    longs: Any,
    out: Any,
    height: Any,
    width: Any,
    pixel_step: Any,
    channel_step: Any,
) -> None:
    """Four taps, clamped to the image; the fill where the point itself lies outside.

    In whole numbers: float32 turns up to 1 % of the bytes of a shear by 0.1 (its many results that are just
    above or below a level), this 0.0 %, and it needs no conversions.
    """
    x = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    if x < width and y < height:
        place = np.uint32(which[np.uint32(cuda.blockIdx.z)])
        row = np.uint32(place * np.uint32(WHOLE_ROW))
        first = np.int64(np.uint32(place * np.uint32(LONG_ROW))) + LONG_FIXED
        column = _long_fixed(longs, first, x, y)
        line = _long_fixed(longs, first + 3, x, y)
        red = np.uint32(_number(whole, row, FILL))
        green = np.uint32(_number(whole, row, FILL + 1))
        blue = np.uint32(_number(whole, row, FILL + 2))
        x_in, y_in = np.int32(column >> np.int64(32)), np.int32(line >> np.int64(32))
        # A negative coordinate is a huge unsigned one.
        if np.uint32(x_in) < width and np.uint32(y_in) < height:
            half = np.int64(0x80000000)
            column, line = np.int64(column - half), np.int64(line - half)
            left, upper = np.int32(column >> np.int64(32)), np.int32(line >> np.int64(32))
            flip = _number(whole, row, FLIP)
            right = np.uint32(min(np.int32(left + np.int32(1)), np.int32(np.int32(width) - np.int32(1))))
            lower = np.uint32(min(np.int32(upper + np.int32(1)), np.int32(np.int32(height) - np.int32(1))))
            a = np.uint32(np.uint32(3) * mirrored(np.uint32(max(left, np.int32(0))), width, flip))
            b = np.uint32(np.uint32(3) * mirrored(right, width, flip))
            p = pixel_offset(place, np.uint32(max(upper, np.int32(0))), np.uint32(0), height, width)
            q = pixel_offset(place, lower, np.uint32(0), height, width)
            x_weight, y_weight = _weight(column), _weight(line)
            # In 64 bits, so that the channel is a constant in the load's address and costs nothing.
            taps = (
                np.int64(np.uint32(p + a)),
                np.int64(np.uint32(p + b)),
                np.int64(np.uint32(q + a)),
                np.int64(np.uint32(q + b)),
            )
            red = _mixed(images, taps, 0, x_weight, y_weight)
            green = _mixed(images, taps, 1, x_weight, y_weight)
            blue = _mixed(images, taps, 2, x_weight, y_weight)
        target = _target(place, y, x, height, width, pixel_step)
        _put(norm, out, target, channel_step, red, green, blue)


@on_device
def _sharpened(images: Any, p: Any, stride: Any, factor: Any) -> Any:
    """One channel blended with its 3x3 SMOOTH filter; `p` (64 bits) has neighbours on all sides."""
    above, below = p - stride, p + stride
    centre = np.int32(images[p])
    total = np.int32(images[above - 3]) + np.int32(images[above]) + np.int32(images[above + 3])
    total += np.int32(images[p - 3]) + np.int32(5) * centre + np.int32(images[p + 3])
    total += np.int32(images[below - 3]) + np.int32(images[below]) + np.int32(images[below + 3])
    return blend(smooth(np.float32(np.int32(total))), np.float32(centre), factor)


def blended(
    images: Any,
    norm: Any,
    which: Any,
    whole: Any,
    reals: Any,
    out: Any,
    height: Any,
    width: Any,
    pixel_step: Any,
    channel_step: Any,
) -> None:
    """Colour and sharpness: each pixel moved away from its gray, or from the SMOOTH filter."""
    x = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    if x < width and y < height:
        place = np.uint32(which[np.uint32(cuda.blockIdx.z)])
        row = np.uint32(place * np.uint32(WHOLE_ROW))
        factor = reals[place]
        flip = _number(whole, row, FLIP)
        p = np.int64(pixel_offset(place, y, mirrored(x, width, flip), height, width))
        red, green, blue = np.uint32(images[p]), np.uint32(images[p + 1]), np.uint32(images[p + 2])
        one = np.uint32(1)
        if _number(whole, row, OP) == COLOR:
            luma = np.float32(np.int32(gray(np.int32(red), np.int32(green), np.int32(blue))))
            red = np.uint32(blend(luma, np.float32(np.int32(red)), factor))
            green = np.uint32(blend(luma, np.float32(np.int32(green)), factor))
            blue = np.uint32(blend(luma, np.float32(np.int32(blue)), factor))
        elif x >= one and y >= one and np.uint32(x + one) < width and np.uint32(y + one) < height:
            stride = np.int64(np.uint32(np.uint32(3) * width))
            red = np.uint32(_sharpened(images, p, stride, factor))
            green = np.uint32(_sharpened(images, p + 1, stride, factor))
            blue = np.uint32(_sharpened(images, p + 2, stride, factor))
        target = _target(place, y, x, height, width, pixel_step)
        _put(norm, out, target, channel_step, red, green, blue)


def erase_box(
    boxes: Any, values: Any, out: Any, height: Any, width: Any, pixel_step: Any, channel_step: Any
) -> None:
    """Fill rectangles of the output. boxes: int32 [K, 5], image, top, left, height, width; values: [3]."""
    box = np.uint32(np.uint32(5) * np.uint32(cuda.blockIdx.y))
    i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    columns = np.uint32(_number(boxes, box, 4))
    if i < np.uint32(np.uint32(_number(boxes, box, 3)) * columns):
        place = np.uint32(_number(boxes, box, 0))
        line = np.uint32(i // columns)
        y = np.uint32(line + np.uint32(_number(boxes, box, 1)))
        x = np.uint32(np.uint32(i - line * columns) + np.uint32(_number(boxes, box, 2)))
        target = _target(place, y, x, height, width, pixel_step)
        for c in range(3):
            out[np.uint32(target + np.uint32(c) * channel_step)] = values[np.uint32(c)]
