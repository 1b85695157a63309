"""Cropping and resizing with Pillow: torchvision's own pixels, because torchvision uses Pillow too."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastpipe.decode.boxes import Box, draw_box, short_side
from fastpipe.storage.jpeg import JpegFacts, jpeg_facts
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop
from fastpipe.types import Size, Spec

__all__ = ["MAX_RESIZED_PIXELS", "crop_and_resize", "output_size", "pixels", "plain_jpeg"]

_FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}

_MODES: Final = {1: "L", 3: "RGB"}  # Pillow's, by the number of components

# Pillow refuses more as a decompression bomb; a strip resized by its shorter side can become that large.
MAX_RESIZED_PIXELS: Final = 2 * 89_478_485


def plain_jpeg(data: bytes | memoryview) -> JpegFacts | None:
    """The facts of a JPEG for which other decoders can give Pillow's pixels; None for any other file.

    These are complete 8-bit Huffman-coded files of 1 or 3 components (CMYK has two meanings), with no more
    pixels than Pillow opens without a warning. Pillow must open them: it may refuse what others ignore, such
    as EXIF.
    """
    data = bytes(data)
    facts = jpeg_facts(data)
    most = Image.MAX_IMAGE_PIXELS
    if facts is None or (most is not None and facts.height * facts.width > most):
        return None
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))  # 20 us
    except Exception:  # of any kind: Pillow is asked for the pixels next and raises it again
        return None
    opened = (image.height, image.width, image.mode)
    return facts if opened == (facts.height, facts.width, _MODES[facts.components]) else None


def output_size(spec: Spec | None) -> Size | None:
    """(height, width) of every image under this spec, or None if it depends on the image."""
    if isinstance(spec, RandomResizedCrop):
        return spec.size
    if isinstance(spec, ResizeCrop):
        if spec.crop is not None:
            return spec.crop
        return spec.resize if isinstance(spec.resize, tuple) else None
    return None


def crop_and_resize(image: Image.Image, spec: Spec | None, uniforms: Sequence[float]) -> Image.Image:
    """Apply a decode spec to an RGB image, with the given random numbers."""
    if spec is None:
        return image
    if isinstance(spec, RandomResizedCrop):
        box = draw_box(spec, uniforms, image.height, image.width)
        cut = _crop(image, box)
        return _resize(cut, spec.size, spec.interpolation)
    if not isinstance(spec, ResizeCrop):
        raise TypeError(f"decode must be RandomResizedCrop or ResizeCrop, not {spec!r}")
    if spec.resize is not None:
        target = spec.resize
        if isinstance(target, int):
            target = short_side(image.height, image.width, target)
        image = _resize(image, target, spec.interpolation)
    if spec.crop is None:
        return image
    return _crop(image, draw_box(spec, uniforms, image.height, image.width))


def _crop(image: Image.Image, box: Box) -> Image.Image:
    # Image.crop fills the area outside the image with zeros, as torchvision's constant padding does.
    return image.crop((box.left, box.top, box.left + box.width, box.top + box.height))


def _resize(image: Image.Image, size: Size, interpolation: str) -> Image.Image:
    if (image.height, image.width) == size:
        return image
    if size[0] * size[1] > MAX_RESIZED_PIXELS:
        raise ValueError(
            f"resizing {image.height} x {image.width} pixels to {size[0]} x {size[1]} would need "
            f"{size[0] * size[1] * 4 >> 20} MiB; give Resize a (height, width) pair, or remove the image"
        )
    # Resizing a crop differs from resize(box=...): a box mixes pixels beyond the crop into its edge.
    return image.resize((size[1], size[0]), _FILTERS[interpolation])


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 [H,W,3] of an RGB image."""
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(image.height, image.width, 3)
