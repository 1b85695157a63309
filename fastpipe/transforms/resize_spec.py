"""Resize on the device, after ColOut. Part of `fastpipe.augment`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from fastpipe.errors import ArgumentError
from fastpipe.transforms.spec_checks import check_flag, is_whole
from fastpipe.types import Size, Spec

__all__ = ["MAX_SIDE", "Resize"]

MAX_SIDE = 65_535
"""Pixels of one side of an image, at most."""

ResizeMode = Literal["bilinear", "nearest", "nearest-exact"]
_MODES = ("bilinear", "nearest", "nearest-exact")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Spec):
    """Resize the whole uint8 batch on the device, after ColOut and before normalisation.

    size: pixels of the shorter side, with the other in proportion (truncated), or (height, width); 1..65535.
    interpolation: "bilinear" and "nearest-exact" give Pillow's bytes, "nearest" the pixels of torch's
    `interpolate(size=, mode="nearest")`. antialias: for "bilinear" only; False takes two taps, however large
    the reduction. With `resolution=`, this step takes the resolution instead of `size`, and the decoder
    keeps its own size.
    """

    kind: ClassVar[str] = "resize"
    size: int | Size = field(kw_only=False)
    interpolation: ResizeMode = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        sides: Sequence[int] = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if len(sides) != 2 or not all(is_whole(side) and 1 <= side <= MAX_SIDE for side in sides):
            raise ArgumentError(
                f"size must be one integer or (height, width), in pixels, 1..{MAX_SIDE}. Found: {self.size!r}"
            )
        if self.interpolation not in _MODES:
            raise ArgumentError(
                f"interpolation must be one of {', '.join(_MODES)}. Found: {self.interpolation!r}"
            )
        check_flag("antialias", self.antialias)

    def target(self, height: int, width: int, resolution: int | None = None) -> Size:
        """The new (height, width) of images of height x width. A resolution replaces `size`."""
        size = self.size if resolution is None else resolution
        if not isinstance(size, int):
            return size
        short, long = min(height, width), max(height, width)
        other = min(max(int(size * long / short), 1), MAX_SIDE)
        return (size, other) if height <= width else (other, size)
