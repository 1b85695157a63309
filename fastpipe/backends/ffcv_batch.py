"""One request to one packed uint8 batch, with FFCV's decoder and resize, and Pillow for what it rejects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.backends.ffcv_native import Native, Scratch, jpeg_frame
from fastpipe.backends.ffcv_threads import Stop
from fastpipe.batch.buffer import collate_labels
from fastpipe.batch.locate import locate
from fastpipe.batch.mend import Mender, first_that_decodes
from fastpipe.decode import Box, crop_and_resize, draw_box, num_uniforms
from fastpipe.decode.boxes import short_side
from fastpipe.decode.pillow import MAX_RESIZED_PIXELS, pixels
from fastpipe.errors import SampleError
from fastpipe.rng import Stream, uniforms
from fastpipe.transforms import RandomResizedCrop, ResizeCrop, with_size
from fastpipe.types import HostBatch, Plan, Request, Size, Spec

__all__ = ["BatchWork", "ThreadState", "dct_eighths", "scaled_box"]

Pixels = npt.NDArray[np.uint8]

# The scaled crop keeps at least this many pixels a side for each pixel of the output. At 1 the edges of the
# box, which are rounded to the coarser grid, shift too much; docs/design/004 has the figures.
_KEEP: Final = 1.25
_RAW: Final = 1


class ThreadState:
    """What one thread reuses from image to image: the decoded frame, and the whole frame resized."""

    def __init__(self) -> None:
        self.frame = Scratch()
        self.resized = Scratch()


class BatchWork:
    """Makes batches; shared by the threads of a source. pin: into page-locked memory."""

    def __init__(self, dataset: Any, plan: Plan, mender: Mender, native: Native, *, pin: bool) -> None:
        self.dataset = dataset
        self.plan = plan
        self.mender = mender
        self.native = native
        self.pin = pin

    def __call__(self, request: Request, state: ThreadState, stop: Stop) -> HostBatch:
        """The batch of one request. Raises SampleError, or RuntimeError for images of unequal size."""
        return _Assembly(self, request, state).run(stop)


def dct_eighths(crop: Size, target: Size) -> int:
    """At how many eighths (8, 4, 2 or 1) to decode, so that the crop still has more pixels than the target.

    Only these are fast: libjpeg-turbo has SIMD for 1/2 and 1/4, and 3/8, 5/8, 6/8, 7/8 save nothing.
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


class _Assembly:
    """One batch in the making, by one thread."""

    def __init__(self, work: BatchWork, request: Request, state: ThreadState) -> None:
        self.work = work
        self.request = request
        self.state = state
        plan = work.plan
        self.spec: Spec | None = plan.decode if request.size is None else with_size(plan, request.size)
        keys = (request.seed, request.epoch, request.ids, request.repeats)
        self.draws: Sequence[Sequence[float]] = uniforms(*keys, Stream.CROP, num_uniforms(self.spec)).tolist()
        self.mending = work.mender.batch(request)
        self.images: torch.Tensor | None = None
        self.array: Pixels | None = None
        self.labels: dict[int, Any] = {}

    def run(self, stop: Stop) -> HostBatch:
        for place in range(len(self.request.ids)):
            if stop():
                raise RuntimeError("the iterator was closed")
            self.mending.fill(place, self._put)
        return self._finished()

    def _put(self, place: int, sample_id: int) -> None:
        leaf, index = locate(self.work.dataset, sample_id)
        try:
            _, rejected = first_that_decodes(
                (
                    ("FFCV", partial(self._native, leaf.beton, index, place)),
                    ("Pillow", partial(self._pillow, leaf, index, place)),
                )
            )
        except SampleError as error:
            error.sample_id = sample_id
            raise
        except ValueError as error:
            name = leaf.samples[index][0]
            raise SampleError(
                f"the image {name!r}: {error}", path=name, sample_id=sample_id, lasting=False
            ) from error
        if rejected is not None:
            self.mending.rescued(place, rejected)
        label = int(leaf.beton.labels[index])
        self.labels[place] = label if leaf.target_transform is None else leaf.target_transform(label)

    def _native(self, beton: Any, index: int, place: int) -> None:
        """Decode, crop and resize into place. Raises SampleError for what FFCV cannot decode."""
        size = int(beton.heights[index]), int(beton.widths[index])
        spec = self.spec
        if spec is None:
            target = self._target(place, size)
            if beton.modes[index] == _RAW:
                target[...] = np.frombuffer(beton.encoded(index), np.uint8).reshape(target.shape)
            else:
                self._decode(beton, index, size, lambda _: target, 8)
        elif isinstance(spec, RandomResizedCrop):
            box = draw_box(spec, self.draws[place], *size)
            eighths = dct_eighths((box.height, box.width), spec.size)
            frame, box = self._frame(beton, index, size, eighths, box)
            self._resize(frame, box, self._target(place, spec.size))
        elif isinstance(spec, ResizeCrop):
            self._resize_crop(beton, index, place, spec, size)
        else:
            raise TypeError(f"decode must be RandomResizedCrop or ResizeCrop, not {spec!r}")

    def _resize_crop(self, beton: Any, index: int, place: int, spec: ResizeCrop, size: Size) -> None:
        resized = spec.resize or size
        resized = short_side(*size, resized) if isinstance(resized, int) else resized
        if resized[0] * resized[1] > MAX_RESIZED_PIXELS:
            raise ValueError(f"resizing it to {resized[0]} x {resized[1]} pixels would need too much memory")
        eighths = 8 if resized == size else dct_eighths(size, resized)
        frame, box = self._frame(beton, index, size, eighths, Box(0, 0, *size))
        if spec.crop is None:
            self._resize(frame, box, self._target(place, resized))
            return
        cut = draw_box(spec, self.draws[place], *resized)
        if resized != size:
            whole = self.state.resized.image(resized)
            self._resize(frame, box, whole)
            frame = whole
        _paste(frame, cut, self._target(place, spec.crop))

    def _frame(self, beton: Any, index: int, size: Size, eighths: int, box: Box) -> tuple[Pixels, Box]:
        """The stored image, decoded at `eighths`, and the box on its grid. Raw images are not copied."""
        if beton.modes[index] == _RAW:
            return np.frombuffer(beton.encoded(index), np.uint8).reshape(*size, 3), box
        frame = self._decode(beton, index, size, self.state.frame.image, eighths)
        return frame, scaled_box(box, size, eighths)

    def _decode(
        self, beton: Any, index: int, size: Size, room: Callable[[Size], Pixels], eighths: int
    ) -> Pixels:
        data = np.frombuffer(beton.encoded(index), np.uint8)
        found = jpeg_frame(data.data)
        if found != size or size[0] * size[1] > MAX_RESIZED_PIXELS:
            raise _rejected(beton, index, _why(found, size))
        frame = room(_scaled(size, eighths))
        done = self.work.native.decode(
            data.ctypes.data, len(data), frame.ctypes.data, (frame.shape[0], frame.shape[1])
        )
        if not done:
            raise _rejected(beton, index, "libjpeg-turbo finds fault with it")
        return frame

    def _resize(self, frame: Pixels, box: Box, target: Pixels) -> None:
        sizes = (frame.shape[0], frame.shape[1]), (target.shape[0], target.shape[1])
        self.work.native.resize(frame.ctypes.data, sizes[0], box, target.ctypes.data, sizes[1])

    def _pillow(self, leaf: Any, index: int, place: int) -> None:
        image = pixels(crop_and_resize(leaf.rgb(index), self.spec, self.draws[place]))
        self._target(place, (image.shape[0], image.shape[1]))[...] = image

    def _target(self, place: int, size: Size) -> Pixels:
        """Where the pixels of this place go, uint8 [*size, 3] of the batch's own fresh memory."""
        if self.array is None:
            shape = (len(self.request.ids), *size, 3)
            self.images = torch.empty(shape, dtype=torch.uint8, pin_memory=self.work.pin)
            self.array = self.images.numpy()
        found = self.array.shape[1:3]
        if found != size:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(found)} pixels (height, width) "
                f"at entry 0 and {list(size)} at entry {place}: "
                f"add Resize with a (height, width) pair, or a crop, to the transform"
            )
        target: Pixels = self.array[place]
        return target

    def _finished(self) -> HostBatch:
        kept, request, incidents = self.mending.finish()
        if self.images is None:
            raise RuntimeError("a batch with samples has no pixels")
        images = self.images
        if len(kept) < len(images):
            images = images[torch.from_numpy(kept)]
            images = images.pin_memory() if self.work.pin else images
        labels = collate_labels([self.labels[place] for place in kept.tolist()])
        if self.work.pin and isinstance(labels, torch.Tensor):
            labels = labels.pin_memory()
        return HostBatch(images=images, labels=labels, request=request, incidents=incidents)


def _paste(frame: Pixels, box: Box, target: Pixels) -> None:
    """Copy `box` of the frame; what lies outside the frame is black."""
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


def _rejected(beton: Any, index: int, reason: str) -> SampleError:
    name = beton.names[index]
    return SampleError(f"FFCV's decoder rejects {name!r}: {reason}", path=name, sample_id=index)
