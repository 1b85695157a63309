"""Warps, colour, sharpness and erasing on CUDA: one pixel per thread, any size and layout.

images: uint8 NHWC. norm: the bits of the output's value of each level [768]. which: the images to do.
whole, matrices, maps: what `cuda/layout.py` says; reals: a factor per image. Elements of an output pixel lie
`channel_step` apart, pixels `pixel_step`. Coordinates are Pillow's: 16.16 fixed point or float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda  # noqa: TID253

from fastpipe.kernels.cuda.device import (
    TWO_52,
    affine_coordinate,
    blend,
    gray,
    lerp,
    lifted,
    mirrored,
    on_device,
    pixel_offset,
    put,
    smooth,
    target_of,
)
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
    REAL_ROW,
    WHOLE_ROW,
)
from fastpipe.kernels.ops import COLOR


@on_device
def _number(numbers: Any, row: Any, index: Any) -> Any:
    return numbers[np.int64(row) + index]


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
        target = target_of(place, y, x, height, width, pixel_step)
        put(norm, out, target, channel_step, red, green, blue)


@on_device
def _fixed(whole: Any, first: Any, x: Any, y: Any) -> Any:
    """One source coordinate from 16.16 fixed point."""
    per_column, per_row = _number(whole, first, 0), _number(whole, first, 1)
    origin = _number(whole, first, 2)
    return np.int32(np.int32(origin + per_column * np.int32(x) + per_row * np.int32(y)) >> np.int32(16))


@on_device
def _source(reals: Any, first: Any, x: Any, y: Any) -> Any:
    """One source coordinate of the pixel's middle, rounded as on the CPU."""
    half = np.float64(0.5)
    across, down = np.float64(np.int32(x)) + half, np.float64(np.int32(y)) + half
    a, b, c = _number(reals, first, 0), _number(reals, first, 1), _number(reals, first, 2)
    return affine_coordinate(a, b, c, across, down)


@on_device
def _is_within(coordinate: Any, size: Any) -> Any:
    return coordinate >= np.float64(0.0) and coordinate < np.float64(np.int32(size))


@on_device
def _taps(coordinate: Any, size: Any) -> Any:
    """The two pixels at a coordinate in 0..size, clamped to the image, and the weight of the second."""
    shifted = coordinate - np.float64(0.5)
    first = np.int32(math.floor(shifted))
    second = np.uint32(min(np.int32(first + np.int32(1)), np.int32(np.int32(size) - np.int32(1))))
    return np.uint32(max(first, np.int32(0))), second, shifted - np.float64(first)


@on_device
def _between(images: Any, first: Any, second: Any, weight: Any) -> Any:
    """rules.lerp of two levels. Their difference is exact with 2^52 in both, which saves a subtraction."""
    start, end = lifted(images[first]), lifted(images[second])
    return (start - np.float64(TWO_52)) + (end - start) * weight


@on_device
def _mixed(images: Any, taps: Any, channel: Any, x_weight: Any, y_weight: Any) -> Any:
    """The truncated level between four taps: offsets of upper left, upper right, lower left, lower right."""
    above = _between(images, taps[0] + channel, taps[1] + channel, x_weight)
    below = _between(images, taps[2] + channel, taps[3] + channel, x_weight)
    return np.uint32(np.int32(lerp(above, below, y_weight)))


def warp_bilinear(
    images: Any,
    norm: Any,
    which: Any,
    whole: Any,
    matrices: Any,
    out: Any,
    height: Any,
    width: Any,
    pixel_step: Any,
    channel_step: Any,
) -> None:
    """Four taps, clamped to the image; the fill where the point itself lies outside.

    In float64, operation for operation as on the CPU, so the bytes are the same. Nothing narrower keeps them
    (docs/design/012): shears by a round number have whole levels everywhere, which truncation may change.
    """
    x = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    if x < width and y < height:
        place = np.uint32(which[np.uint32(cuda.blockIdx.z)])
        row = np.uint32(place * np.uint32(WHOLE_ROW))
        first = np.int64(np.uint32(place * np.uint32(REAL_ROW))) + MATRIX
        column, line = _source(matrices, first, x, y), _source(matrices, first + 3, x, y)
        red = np.uint32(_number(whole, row, FILL))
        green = np.uint32(_number(whole, row, FILL + 1))
        blue = np.uint32(_number(whole, row, FILL + 2))
        if _is_within(column, width) and _is_within(line, height):
            flip = _number(whole, row, FLIP)
            left, right, x_weight = _taps(column, width)
            upper, lower, y_weight = _taps(line, height)
            a = np.uint32(np.uint32(3) * mirrored(left, width, flip))
            b = np.uint32(np.uint32(3) * mirrored(right, width, flip))
            p = pixel_offset(place, upper, np.uint32(0), height, width)
            q = pixel_offset(place, lower, np.uint32(0), height, width)
            # In 64 bits, so the channel is a constant in the load's address and costs nothing.
            taps = (
                np.int64(np.uint32(p + a)),
                np.int64(np.uint32(p + b)),
                np.int64(np.uint32(q + a)),
                np.int64(np.uint32(q + b)),
            )
            red = _mixed(images, taps, 0, x_weight, y_weight)
            green = _mixed(images, taps, 1, x_weight, y_weight)
            blue = _mixed(images, taps, 2, x_weight, y_weight)
        target = target_of(place, y, x, height, width, pixel_step)
        put(norm, out, target, channel_step, red, green, blue)


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
        target = target_of(place, y, x, height, width, pixel_step)
        put(norm, out, target, channel_step, red, green, blue)


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
        target = target_of(place, y, x, height, width, pixel_step)
        for c in range(3):
            out[np.uint32(target + np.uint32(c) * channel_step)] = values[np.uint32(c)]
