"""Where to crop: pure functions of uniform numbers and the image's height and width.

Every backend receives these boxes; none uses random numbers of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastpipe.errors import ArgumentError
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop
from fastpipe.types import IntArray, Size, Spec

__all__ = ["Box", "CropError", "draw_box", "num_uniforms", "random_corners", "short_side"]

_TRIES = 10  # torchvision's number of attempts before it takes the central crop


class CropError(ValueError):
    """A crop that is larger than the image."""


@dataclass(frozen=True, slots=True)
class Box:
    """A crop in pixels. `top` and `left` may be negative: pixels outside the image are black."""

    top: int
    left: int
    height: int
    width: int


def num_uniforms(spec: Spec | None) -> int:
    """The number of uniform numbers that `draw_box` needs for this spec."""
    if isinstance(spec, RandomResizedCrop):
        return 2 * _TRIES + 2
    return 2 if isinstance(spec, ResizeCrop) and spec.where == "random" else 0


def draw_box(spec: Spec, uniforms: Sequence[float], height: int, width: int) -> Box:
    """The box of one image: in the source for RandomResizedCrop, in the resized image for ResizeCrop."""
    if isinstance(spec, RandomResizedCrop):
        return resized_crop_box(uniforms, height, width, spec.scale, spec.ratio)
    if not isinstance(spec, ResizeCrop):
        raise ArgumentError(f"decode must be RandomResizedCrop or ResizeCrop. Found: {spec!r}")
    if spec.crop is None:
        return Box(0, 0, height, width)
    if spec.where == "center":
        return center_box(height, width, spec.crop)
    return random_box(uniforms, height, width, spec.crop, spec.padding)


def resized_crop_box(
    uniforms: Sequence[float],
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """torchvision's RandomResizedCrop.get_params on 22 given numbers in [0, 1).

    Numbers 2k and 2k+1 are area and log-ratio of attempt k; the last two are the position.
    """
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(_TRIES):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * uniforms[2 * attempt])
        aspect = math.exp(log_low + (log_high - log_low) * uniforms[2 * attempt + 1])
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(uniforms[-2] * (height - crop_height + 1))
            left = int(uniforms[-1] * (width - crop_width + 1))
            return Box(top, left, crop_height, crop_width)
    return _fallback_box(height, width, ratio)


def _fallback_box(height: int, width: int, ratio: tuple[float, float]) -> Box:
    """The largest central crop within the ratio bounds."""
    crop_height, crop_width = height, width
    if width / height < min(ratio):
        crop_height = round(width / min(ratio))
    elif width / height > max(ratio):
        crop_width = round(height * max(ratio))
    return Box((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width)


def center_box(height: int, width: int, crop: Size) -> Box:
    """torchvision's CenterCrop; the box reaches beyond an image that is smaller than the crop."""
    tops, lefts = crop[0] - height, crop[1] - width
    # torchvision pads a smaller image by (d // 2, (d + 1) // 2) and rounds half to even otherwise.
    top = -(tops // 2) if tops > 0 else round((height - crop[0]) / 2.0)
    left = -(lefts // 2) if lefts > 0 else round((width - crop[1]) / 2.0)
    return Box(top, left, crop[0], crop[1])


def random_box(
    uniforms: Sequence[float], height: int, width: int, crop: Size, padding: tuple[int, int, int, int]
) -> Box:
    """torchvision's RandomCrop after padding by (left, top, right, bottom)."""
    tops, lefts = _places(height, width, crop, padding)
    top = int(uniforms[0] * tops) - padding[1]
    left = int(uniforms[1] * lefts) - padding[0]
    return Box(top, left, crop[0], crop[1])


def random_corners(
    uniforms: npt.NDArray[np.float64],
    height: int,
    width: int,
    crop: Size,
    padding: tuple[int, int, int, int],
) -> tuple[IntArray, IntArray]:
    """The tops and lefts, int64 [B], of `random_box` for images of one size and numbers float64 [B,2]."""
    places = np.array(_places(height, width, crop, padding))
    corners = (uniforms * places).astype(np.int64) - (padding[1], padding[0])
    return corners[:, 0], corners[:, 1]


def _places(height: int, width: int, crop: Size, padding: tuple[int, int, int, int]) -> Size:
    """How many tops and lefts there are. CropError for a crop that does not fit."""
    padded_height = height + padding[1] + padding[3]
    padded_width = width + padding[0] + padding[2]
    if padded_height < crop[0] or padded_width < crop[1]:
        raise CropError(
            f"the crop of {crop[0]} x {crop[1]} pixels is larger than the image, which has {padded_height} x "
            f"{padded_width} with its padding; use a smaller crop, a Resize before it, or pad_if_needed"
        )
    return padded_height - crop[0] + 1, padded_width - crop[1] + 1


def short_side(height: int, width: int, size: int) -> Size:
    """torchvision's Resize(int): the shorter side becomes `size`, the other keeps the aspect (truncated)."""
    if width <= height:
        return int(size * height / width), size
    return size, int(size * width / height)
