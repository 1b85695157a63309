"""numerics="fast": FFCV's decoder, scaled if the crop has pixels to spare, and INTER_AREA if it shrinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from PIL import Image

from fastpipe.backends.ffcv.native import Native, jpeg_frame
from fastpipe.backends.ffcv.sample import Room, Sample, ThreadState
from fastpipe.batch.packing import Pixels
from fastpipe.decode import Box, crop_and_resize, draw_box
from fastpipe.decode.boxes import short_side
from fastpipe.decode.pillow import MAX_RESIZED_PIXELS, pixels
from fastpipe.transforms import RandomResizedCrop, ResizeCrop
from fastpipe.types import Size

# The scaled crop keeps at least this many pixels a side for each pixel of the output. At 1 the edges of the
# box, which are rounded to the coarser grid, shift too much; docs/design/004 has the figures.
_KEEP: Final = 1.25


def dct_eighths(crop: Size, target: Size) -> int:
    """How many eighths (8, 4, 2 or 1) to decode at, so that the crop still has more pixels than the target.

    Only these scales are fast: libjpeg-turbo has SIMD for 1/2 and 1/4, and 3/8, 5/8, 6/8, 7/8 save nothing.
    """
    eighths = 8
    while eighths > 1 and all(
        side * eighths >= 16 * _KEEP * out for side, out in zip(crop, target, strict=True)
    ):
        eighths //= 2
    return eighths


def scaled_box(box: Box, size: Size, eighths: int) -> Box:
    """The box on the grid of a frame decoded at `eighths`, edges rounded; size: of the unscaled frame."""
    if eighths == 8:
        return box
    height, width = _scaled(size, eighths)
    top, bottom = _span(box.top, box.top + box.height, eighths, height)
    left, right = _span(box.left, box.left + box.width, eighths, width)
    return Box(top, left, bottom - top, right - left)


def _span(start: int, stop: int, eighths: int, end: int) -> tuple[int, int]:
    first = min((start * eighths + 4) // 8, end - 1)
    return first, min(max((stop * eighths + 4) // 8, first + 1), end)


def _scaled(size: Size, eighths: int) -> Size:
    return (size[0] * eighths + 7) // 8, (size[1] * eighths + 7) // 8


def fill_fast(native: Native, state: ThreadState, sample: Sample, room: Room) -> None:
    """Decode, crop and resize a sample into its room.

    Raises SampleError for what FFCV cannot decode, ValueError for a crop that does not fit.
    """
    size, spec = sample.size, sample.spec
    if spec is None:
        target = room(size)
        if sample.raw:
            target[...] = sample.data.reshape(target.shape)
        else:
            _decode(native, sample, lambda _: target, 8)
    elif isinstance(spec, RandomResizedCrop):
        box = draw_box(spec, sample.draws, *size)
        eighths = dct_eighths((box.height, box.width), spec.size)
        frame, box = _frame(native, state, sample, eighths, box)
        _resize(native, frame, box, room(spec.size), spec.interpolation)
    elif isinstance(spec, ResizeCrop):
        _resize_crop(native, state, sample, spec, room)
    else:
        raise TypeError(f"decode must be RandomResizedCrop or ResizeCrop, not {spec!r}")


def _resize_crop(native: Native, state: ThreadState, sample: Sample, spec: ResizeCrop, room: Room) -> None:
    size = sample.size
    resized = spec.resize or size
    resized = short_side(*size, resized) if isinstance(resized, int) else resized
    if resized[0] * resized[1] > MAX_RESIZED_PIXELS:
        raise ValueError(f"resizing it to {resized[0]} x {resized[1]} pixels would need too much memory")
    eighths = 8 if resized == size else dct_eighths(size, resized)
    frame, box = _frame(native, state, sample, eighths, Box(0, 0, *size))
    if spec.crop is None:
        _resize(native, frame, box, room(resized), spec.interpolation)
        return
    cut = draw_box(spec, sample.draws, *resized)
    if resized != size:
        whole = state.resized.image(resized)
        _resize(native, frame, box, whole, spec.interpolation)
        frame = whole
    _paste(frame, cut, room(spec.crop))


def _frame(native: Native, state: ThreadState, sample: Sample, eighths: int, box: Box) -> tuple[Pixels, Box]:
    """The stored image, decoded at `eighths`, and the box on its grid. Raw images are not copied."""
    if sample.raw:
        return sample.data.reshape(*sample.size, 3), box
    frame = _decode(native, sample, state.frame.image, eighths)
    return frame, scaled_box(box, sample.size, eighths)


def _decode(native: Native, sample: Sample, room: Callable[[Size], Pixels], eighths: int) -> Pixels:
    data, size = sample.data, sample.size
    found = jpeg_frame(data.data)
    if found != size or size[0] * size[1] > MAX_RESIZED_PIXELS:
        raise sample.rejected(_why(found, size))
    frame = room(_scaled(size, eighths))
    shape = frame.shape[0], frame.shape[1]
    if not native.decode(data.ctypes.data, len(data), frame.ctypes.data, shape):
        raise sample.rejected("libjpeg-turbo finds fault with it")
    return frame


def _resize(native: Native, frame: Pixels, box: Box, target: Pixels, interpolation: Any) -> None:
    """Resize a box by INTER_AREA if neither direction is enlarged; Pillow resizes the others.

    If one direction is enlarged, INTER_AREA does not average areas but samples both directions: up to 23
    levels off in the mean. Else it is up to 5 off, in waves of 4 to 9 pixels of the output.
    """
    sizes = (frame.shape[0], frame.shape[1]), (target.shape[0], target.shape[1])
    if box.height >= sizes[1][0] and box.width >= sizes[1][1]:
        native.resize(frame.ctypes.data, sizes[0], box, target.ctypes.data, sizes[1])
        return
    cut = np.ascontiguousarray(frame[box.top : box.top + box.height, box.left : box.left + box.width])
    image = Image.frombuffer("RGB", (box.width, box.height), cut, "raw", "RGB", 0, 1)
    target[...] = pixels(crop_and_resize(image, ResizeCrop(resize=sizes[1], interpolation=interpolation), ()))


def _paste(frame: Pixels, box: Box, target: Pixels) -> None:
    """Copy `box` of the frame; pixels outside the frame are black."""
    height, width = frame.shape[:2]
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.top + box.height, height), min(box.left + box.width, width)
    inside = bottom > top and right > left
    if not inside or (bottom - top, right - left) != (box.height, box.width):
        target[...] = 0
    if inside:
        target[top - box.top : bottom - box.top, left - box.left : right - box.left] = frame[
            top:bottom, left:right
        ]


def _why(found: Size | None, size: Size) -> str:
    if found is None:
        return "it has no JPEG frame header"
    if found != size:
        return f"its header says {found[0]} x {found[1]} pixels, the table {size[0]} x {size[1]}"
    return f"{size[0]} x {size[1]} pixels are more than {MAX_RESIZED_PIXELS} (a decompression bomb?)"
