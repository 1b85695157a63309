"""numerics="exact": libjpeg-turbo decodes as Pillow does, and Pillow itself crops and resizes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fastpipe.backends.ffcv.sample import Room, Sample, ThreadState
from fastpipe.batch.packing import Pixels
from fastpipe.decode import crop_and_resize, draw_box
from fastpipe.decode.pillow import pixels, plain_jpeg
from fastpipe.transforms import RandomResizedCrop, ResizeCrop


def has_pillows_pixels(sample: Sample) -> bool:
    """Whether libjpeg-turbo may decode it: JPEGs except progressive ones, of the size given by the table.

    A progressive file that lacks scans is smoothed, and versions differ in that: for 4:2:0 by up to 13 levels
    between 2.1.5, which FFCV has from the distribution, and 3.2, which is in Pillow. Raw images gain nothing.
    """
    if sample.raw:
        return False
    facts = plain_jpeg(sample.data.data)
    return facts is not None and not facts.progressive and (facts.height, facts.width) == sample.size


def fill_exact(state: ThreadState, sample: Sample, room: Room) -> None:
    """Decode, crop and resize a sample that `has_pillows_pixels` into its room.

    Raises SampleError for a file that libjpeg-turbo faults, ValueError for a crop that does not fit.
    """
    size, spec = sample.size, sample.spec
    if spec is None:
        _decode(state, sample, room(size))
        return
    frame = state.frame.image(size)
    _decode(state, sample, frame)
    if isinstance(spec, RandomResizedCrop):
        box = draw_box(spec, sample.draws, *size)
        frame = frame[box.top : box.top + box.height, box.left : box.left + box.width]
        spec = ResizeCrop(resize=spec.size, interpolation=spec.interpolation)
    made = pixels(crop_and_resize(_image(frame), spec, sample.draws))
    room((made.shape[0], made.shape[1]))[...] = made


def _decode(state: ThreadState, sample: Sample, target: Pixels) -> None:
    fault = state.decoder.decode(sample.data, target)
    if fault is not None:
        raise sample.rejected(fault)


def _image(frame: Pixels) -> Image.Image:
    """A Pillow image of the pixels: Pillow keeps four bytes for each, so they are copied once."""
    packed = np.ascontiguousarray(frame)
    return Image.frombuffer("RGB", (frame.shape[1], frame.shape[0]), packed, "raw", "RGB", 0, 1)
