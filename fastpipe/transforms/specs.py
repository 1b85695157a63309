"""The steps that fastpipe knows by meaning. Re-exported as `fastpipe.augment`.

Each is a frozen dataclass, valid by construction. Decode steps determine a size in pixels (height, width);
device steps act on the uint8 batch in the order of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fastpipe.errors import ArgumentError
from fastpipe.transforms.mix_specs import ColOut, CutMix, MixUp, RandomChoice
from fastpipe.transforms.policy_specs import RandAugment, TrivialAugmentWide, timm_rand_augment
from fastpipe.transforms.resize_spec import Resize
from fastpipe.transforms.spec_checks import check_channels, check_probability
from fastpipe.types import Size, Spec

__all__ = [
    "ColOut",
    "CutMix",
    "HorizontalFlip",
    "MixUp",
    "Normalize",
    "RandAugment",
    "RandomChoice",
    "RandomErasing",
    "RandomResizedCrop",
    "Resize",
    "ResizeCrop",
    "ToFloat",
    "TrivialAugmentWide",
    "timm_rand_augment",
]

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
FloatName = Literal["float32", "float16", "bfloat16"]


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

    crop: (height, width), or None. where: "center", or "random" after adding `padding` zero pixels on the
    sides (left, top, right, bottom), as torchvision's RandomCrop does.
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
    """Mirror left and right with probability `p`, for each image."""

    kind: ClassVar[str] = "flip"
    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability("p", self.p)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToFloat(Spec):
    """uint8 to `dtype`, in [0, 1] if `scale`, else the level itself (0..255). For a float image: a cast.

    rule: "divide" is x / 255 (ToTensor, v1 ConvertImageDtype), "multiply" is x * (1 / 255) (v2 ToDtype);
    in float32 they differ in the last bit at 126 of the 256 levels.
    """

    kind: ClassVar[str] = "to_float"
    scale: bool = True
    dtype: FloatName = "float32"
    rule: Literal["divide", "multiply"] = "divide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize(Spec):
    """(x - mean) / std per channel, in the range that ToFloat produces."""

    kind: ClassVar[str] = "normalize"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        check_channels("mean", self.mean)
        check_channels("std", self.std)
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
        check_probability("p", self.p)
        check_channels("value", self.value)
        if not 0.0 <= self.scale[0] <= self.scale[1] <= 1.0:
            raise ArgumentError(f"scale must be an increasing pair in [0, 1]. Found: {self.scale!r}")
        if not 0.0 < self.ratio[0] <= self.ratio[1]:
            raise ArgumentError(f"ratio must be an increasing pair above 0. Found: {self.ratio!r}")
