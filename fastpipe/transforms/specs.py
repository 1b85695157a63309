"""The steps that fastpipe knows by meaning. Re-exported as `fastpipe.augment`.

Each is a frozen dataclass, valid by construction. Decode steps give a size in pixels (height, width);
device steps act on the uint8 batch in the order of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fastpipe.errors import ArgumentError
from fastpipe.types import Size, Spec

__all__ = [
    "HorizontalFlip",
    "Normalize",
    "RandAugment",
    "RandomErasing",
    "RandomResizedCrop",
    "ResizeCrop",
    "ToFloat",
    "TrivialAugmentWide",
]

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Space = Literal["torchvision", "torchvision_v2"]
FloatName = Literal["float32", "float16", "bfloat16"]


def _check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(f"{name} must be a probability in [0, 1]. Found: {value!r}")


def _check_channels(name: str, values: Sequence[float]) -> None:
    if len(values) != 3:
        raise ArgumentError(f"{name} must have 3 channels. Found: {values!r}")


def _check_bins_and_fill(num_magnitude_bins: int, fill: Sequence[int]) -> None:
    if num_magnitude_bins < 2:
        raise ArgumentError(f"num_magnitude_bins must be >= 2. Found: {num_magnitude_bins!r}")
    if len(fill) != 3 or min(fill) < 0 or max(fill) > 255:
        raise ArgumentError(f"fill must be three levels in 0..255. Found: {fill!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomResizedCrop(Spec):
    """A random part of the image, resized: torchvision's rule, with our random numbers.

    scale: range of the crop's share of the image area. ratio: range of width / height, log-uniform.
    """

    kind: ClassVar[str] = "crop"
    size: Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3.0 / 4.0, 4.0 / 3.0)
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ArgumentError(f"size must be at least 1 x 1 pixels. Found: {self.size!r}")
        if not 0.0 < self.scale[0] <= self.scale[1]:
            raise ArgumentError(f"scale must be an increasing pair above 0. Found: {self.scale!r}")
        if not 0.0 < self.ratio[0] <= self.ratio[1]:
            raise ArgumentError(f"ratio must be an increasing pair above 0. Found: {self.ratio!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeCrop(Spec):
    """Resize (an int: the shorter side; a pair: height and width; None: no resize), then a crop.

    crop: (height, width), or None. where: "center", or "random" with `padding` zero pixels
    added on every side first (left, top, right, bottom), as torchvision's RandomCrop does.
    """

    kind: ClassVar[str] = "crop"
    resize: int | Size | None = None
    crop: Size | None = None
    where: Literal["center", "random"] = "center"
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        resize = (self.resize,) if isinstance(self.resize, int) else self.resize or (1,)
        if min(*resize, *(self.crop or (1,)), 1) < 1:
            raise ArgumentError(
                f"resize and crop must be at least 1 pixel. Found: resize={self.resize!r}, crop={self.crop!r}"
            )
        if min(self.padding) < 0:
            raise ArgumentError(f"padding must be >= 0 pixels on every side. Found: {self.padding!r}")
        if self.where == "center" and any(self.padding):
            raise ArgumentError(f"padding needs where='random'. Found: padding={self.padding!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizontalFlip(Spec):
    """Mirror left and right with probability `p`, per image."""

    kind: ClassVar[str] = "flip"
    p: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("p", self.p)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandAugment(Spec):
    """`num_ops` operations per image, each image its own, drawn with replacement.

    space: 14 operations, `num_magnitude_bins` (at least 2) levels, sign with probability one half.
    "torchvision_v2" differs in the solarize threshold: v2 computes 255 * linspace(1, 0), v1 linspace(255, 0),
    and in 11 of 31 levels the two lie on different sides of a gray level.
    fill: RGB in 0..255 for pixels from outside the image.
    Source: torchvision.transforms.RandAugment (Cubuk et al., arXiv 1909.13719).
    """

    kind: ClassVar[str] = "randaugment"
    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    space: Space = "torchvision"
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.num_ops < 0:
            raise ArgumentError(f"num_ops must be >= 0. Found: {self.num_ops!r}")
        if not 0 <= self.magnitude < self.num_magnitude_bins:
            raise ArgumentError(
                f"magnitude must be in 0..{self.num_magnitude_bins - 1} (num_magnitude_bins - 1). "
                f"Found: {self.magnitude!r}"
            )
        _check_bins_and_fill(self.num_magnitude_bins, self.fill)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialAugmentWide(Spec):
    """One operation per image at a uniformly drawn level, wide ranges. `space`: as for RandAugment.

    Source: torchvision.transforms.TrivialAugmentWide (Müller & Hutter, arXiv 2103.10158).
    """

    kind: ClassVar[str] = "randaugment"
    num_magnitude_bins: int = 31
    space: Space = "torchvision"
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        _check_bins_and_fill(self.num_magnitude_bins, self.fill)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToFloat(Spec):
    """uint8 to `dtype`, in [0, 1] when `scale`, else the level itself (0..255). Of a float image: a cast.

    rule: "divide" is x / 255 (ToTensor, v1 ConvertImageDtype), "multiply" is x * (1 / 255) (v2 ToDtype);
    in float32 they differ in the last bit of 126 of the 256 levels.
    """

    kind: ClassVar[str] = "to_float"
    scale: bool = True
    dtype: FloatName = "float32"
    rule: Literal["divide", "multiply"] = "divide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize(Spec):
    """(x - mean) / std per channel, in the range that ToFloat gives."""

    kind: ClassVar[str] = "normalize"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        _check_channels("mean", self.mean)
        _check_channels("std", self.std)
        if min(self.std) <= 0.0:
            raise ArgumentError(f"std must be above 0 in every channel. Found: {self.std!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomErasing(Spec):
    """With probability `p`, fill one random rectangle per image, after normalisation.

    scale: range of the rectangle's share of the area. ratio: range of height / width, log-uniform.
    value: one number per channel, in the normalised range.
    Source: torchvision.transforms.RandomErasing (Zhong et al., arXiv 1708.04896).
    """

    kind: ClassVar[str] = "erasing"
    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        _check_probability("p", self.p)
        _check_channels("value", self.value)
        if not 0.0 <= self.scale[0] <= self.scale[1] <= 1.0:
            raise ArgumentError(f"scale must be an increasing pair in [0, 1]. Found: {self.scale!r}")
        if not 0.0 < self.ratio[0] <= self.ratio[1]:
            raise ArgumentError(f"ratio must be an increasing pair above 0. Found: {self.ratio!r}")
