"""Steps drawn once per batch: ColOut, MixUp, CutMix, and a choice between the last two. Part of
`fastpipe.augment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fastpipe.errors import ArgumentError
from fastpipe.transforms.spec_checks import check_positive, check_probability
from fastpipe.types import Size, Spec

__all__ = ["ColOut", "CutMix", "MixUp", "RandomChoice", "TorchvisionCutMix", "TorchvisionMixUp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColOut(Spec):
    """Drop random rows and columns, the same for the whole batch; the images shrink.

    p_row, p_col: the share dropped, in [0, 1). int((1 - p) * side) remain, at least 1: with 0.05, 167 of 176.
    Source: Composer 0.7.1, ColOut with batch=True.
    """

    kind: ClassVar[str] = "colout"
    p_row: float = 0.15
    p_col: float = 0.15

    def __post_init__(self) -> None:
        for name, share in (("p_row", self.p_row), ("p_col", self.p_col)):
            if not 0.0 <= share < 1.0:
                raise ArgumentError(f"{name} must be a share in [0, 1). Found: {share!r}")

    def target(self, height: int, width: int, resolution: int | None = None) -> Size:
        """How many rows and columns stay."""
        return max(1, int((1.0 - self.p_row) * height)), max(1, int((1.0 - self.p_col) * width))


@dataclass(frozen=True, slots=True, kw_only=True)
class MixUp(Spec):
    """Blend each image and its label with those of a partner from the batch; one weight per batch.

    The partner's weight is min(l, 1 - l) with l ~ Beta(alpha, alpha), so the image's own label has the
    largest weight. Needs the number of classes.
    Sources: Zhang et al., arXiv 1710.09412; Composer 0.7.1.
    """

    kind: ClassVar[str] = "mix"
    alpha: float = field(kw_only=False)

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutMix(Spec):
    """Paste one box from a partner in the batch; labels are weighted by area. One box per batch.

    The box has sqrt(1 - l) of each side, with l ~ Beta(alpha, alpha). Its centre is anywhere, and it is
    clipped to the image; the label weight is the share that remains. Needs the number of classes.
    Sources: Yun et al., arXiv 1905.04899; Composer 0.7.1.
    """

    kind: ClassVar[str] = "mix"
    alpha: float = field(kw_only=False)

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchvisionMixUp(MixUp):
    """MixUp as in torchvision's v2: the partner is the previous image, with all of Beta(alpha, alpha)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchvisionCutMix(CutMix):
    """CutMix as in torchvision's v2: the partner is the previous image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomChoice(Spec):
    """One of several MixUp and CutMix steps, drawn per batch. p: one probability each; default: equal."""

    kind: ClassVar[str] = "mix"
    options: Sequence[MixUp | CutMix] = field(kw_only=False)
    p: Sequence[float] | None = None

    def __post_init__(self) -> None:
        options = tuple(self.options)
        if not options or not all(isinstance(option, MixUp | CutMix) for option in options):
            raise ArgumentError(f"options must be at least one MixUp or CutMix. Found: {self.options!r}")
        shares = (1.0 / len(options),) * len(options) if self.p is None else tuple(self.p)
        for share in shares:
            check_probability("p", share)
        if len(shares) != len(options) or abs(sum(shares) - 1.0) > 1e-6:
            raise ArgumentError(
                f"p must contain one probability for each of the {len(options)} options, with a sum of 1. "
                f"Found: {self.p!r}"
            )
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "p", shares)
