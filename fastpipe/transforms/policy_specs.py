"""Policies: random operations, drawn separately for each image. Part of `fastpipe.augment`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from fastpipe.errors import ArgumentError
from fastpipe.transforms.spec_checks import check_at_least, check_fill, check_probability
from fastpipe.types import Spec

__all__ = ["RandAugment", "TrivialAugmentWide", "timm_rand_augment"]

TorchvisionSpace = Literal["torchvision", "torchvision_v2"]
Space = Literal["composer", "composer-original", "composer-safe", "timm", "torchvision", "torchvision_v2"]
WarpInterpolation = Literal["nearest", "bilinear"]
Color = tuple[int, int, int]

_COMPOSER = {"depth": 1, "severity": 10.0, "interpolation": "bilinear", "fill": (0, 0, 0)}
_TORCHVISION = {
    "num_ops": 2,
    "magnitude": 9,
    "num_magnitude_bins": 31,
    "interpolation": "nearest",
    "fill": (0, 0, 0),
}
_TIMM = {
    "num_ops": 2,
    "magnitude": 10,
    "p": 0.5,
    "mstd": 0.0,
    "mmax": 10.0,
    "increasing": False,
    "interpolation": "bilinear",
    "fill": (128, 128, 128),
}
# The settings of each space and their defaults; a setting of another space is an error.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "composer": _COMPOSER,
    "composer-original": _COMPOSER,
    "composer-safe": _COMPOSER,
    "timm": _TIMM,
    "torchvision": _TORCHVISION,
    "torchvision_v2": _TORCHVISION,
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RandAugment(Spec):
    """Random operations in sequence, drawn with replacement for each image separately.

    space: the operations and their strengths. A setting left at None takes the space's own default.
      composer, composer-original, composer-safe: `depth` operations, level U(0.1, `severity`) per operation,
        severity 0..10. 13 operations; "original" has one-sided enhancers, "safe" the first 9. Black fill.
      torchvision, torchvision_v2: `num_ops` of 14 operations at level `magnitude` of `num_magnitude_bins`. v2
        differs in the solarize threshold: 255 * linspace(1, 0) instead of linspace(255, 0); at 11 of 31
        levels the two are on different sides of a gray level.
      timm: `num_ops` of 15 operations, each applied with probability `p`, at `magnitude` (0..`mmax`) with
        Gaussian noise of standard deviation `mstd` (infinite: uniform from 0), in the `increasing` variant
        or not. timm draws bilinear or bicubic at random; here `interpolation` decides.
    interpolation: of the warps. fill: RGB in 0..255 for pixels from outside the image.
    Sources: Cubuk et al., arXiv 1909.13719; Composer 0.7.1, torchvision, timm 1.0 (RandAugment).
    """

    kind: ClassVar[str] = "randaugment"
    space: Space = "composer"
    depth: int | None = None
    severity: float | None = None
    num_ops: int | None = None
    magnitude: float | None = None
    num_magnitude_bins: int | None = None
    p: float | None = None
    mstd: float | None = None
    mmax: float | None = None
    increasing: bool | None = None
    interpolation: WarpInterpolation | None = None
    fill: Color | None = None

    def __post_init__(self) -> None:
        if self.space not in _SETTINGS:
            names = ", ".join(repr(name) for name in get_args(Space))
            raise ArgumentError(f"space must be one of {names}. Found: {self.space!r}")
        own = _SETTINGS[self.space]
        for field in fields(self):
            if field.name in own and getattr(self, field.name) is None:
                object.__setattr__(self, field.name, own[field.name])
            if field.name not in (*own, "space") and getattr(self, field.name) is not None:
                raise ArgumentError(
                    f"{field.name} is not a setting of space={self.space!r}, which has {', '.join(own)}. "
                    f"Found: {field.name}={getattr(self, field.name)!r}. Leave it out, or name another space"
                )
        _check_policy(self)

    def __repr__(self) -> str:
        names = ("space", *_SETTINGS[self.space])
        return f"RandAugment({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @property
    def length(self) -> int:
        """Operations per image."""
        return (self.num_ops if self.depth is None else self.depth) or 0


def _check_policy(spec: RandAugment) -> None:
    values = {name: getattr(spec, name) for name in _SETTINGS[spec.space]}
    check_fill(values["fill"])
    _check_interpolation(values["interpolation"])
    if "depth" in values:
        check_at_least("depth", values["depth"], 1)
        if not 0.0 <= values["severity"] <= 10.0:
            raise ArgumentError(f"severity must be in [0, 10]. Found: {values['severity']!r}")
        return
    check_at_least("num_ops", values["num_ops"], 0)
    if spec.space == "timm":
        _check_timm(values)
        return
    check_at_least("num_magnitude_bins", values["num_magnitude_bins"], 2)
    bins = values["num_magnitude_bins"]
    if values["magnitude"] not in range(bins):
        raise ArgumentError(
            f"magnitude must be in 0..{bins - 1} (num_magnitude_bins - 1). Found: {values['magnitude']!r}"
        )


def _check_timm(values: Mapping[str, Any]) -> None:
    check_probability("p", values["p"])
    if not values["mstd"] >= 0.0:
        raise ArgumentError(f"mstd must be a standard deviation >= 0. Found: {values['mstd']!r}")
    for name in ("magnitude", "mmax"):
        if not (values[name] >= 0.0 and math.isfinite(values[name])):
            raise ArgumentError(f"{name} must be a finite level >= 0. Found: {values[name]!r}")


def _check_interpolation(name: str) -> None:
    if name not in get_args(WarpInterpolation):
        raise ArgumentError(f"interpolation must be 'nearest' or 'bilinear'. Found: {name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialAugmentWide(Spec):
    """One operation per image at a uniformly drawn level, with wide ranges. `space`: as for RandAugment.

    Source: torchvision.transforms.TrivialAugmentWide (Müller & Hutter, arXiv 2103.10158).
    """

    kind: ClassVar[str] = "randaugment"
    num_magnitude_bins: int = 31
    space: TorchvisionSpace = "torchvision"
    interpolation: WarpInterpolation = "nearest"
    fill: Color = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.space not in get_args(TorchvisionSpace):
            raise ArgumentError(f"space must be 'torchvision' or 'torchvision_v2'. Found: {self.space!r}")
        check_at_least("num_magnitude_bins", self.num_magnitude_bins, 2)
        _check_interpolation(self.interpolation)
        check_fill(self.fill)


_KEYS: Mapping[str, tuple[str, type]] = {
    "m": ("magnitude", int),
    "n": ("num_ops", int),
    "p": ("p", float),
    "mstd": ("mstd", float),
    "mmax": ("mmax", int),
    "inc": ("increasing", int),
}


def timm_rand_augment(
    config: str, *, interpolation: WarpInterpolation = "bilinear", fill: Color = (128, 128, 128)
) -> RandAugment:
    """The policy that a configuration string of timm describes, such as "rand-m7-mstd0.5-inc1".

    Sections: m magnitude, n operations, p probability, mstd noise (above 100: uniform), mmax, inc 0 or 1. An
    mmax of 0 is timm's default of 10. The sets of operations behind `t` are not supported.
    Raises ArgumentError for anything else.
    """
    head, *sections = config.split("-")
    if head != "rand":
        raise ArgumentError(f"config must begin with 'rand', as in 'rand-m7-mstd0.5-inc1'. Found: {config!r}")
    values: dict[str, Any] = {}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)([0-9.]+)", section)
        name, kind = _KEYS.get(match[1], ("", int)) if match else ("", int)
        try:
            values[name] = kind(match[2]) if match else None
        except ValueError:
            name = ""
        if not name:
            raise ArgumentError(
                f"config has sections {', '.join(_KEYS)}, each with a number. "
                f"Found: {section!r} in {config!r}"
            )
    if values.get("mstd", 0.0) > 100:
        values["mstd"] = math.inf
    if "increasing" in values:
        values["increasing"] = bool(values["increasing"])
    if not values.get("mmax", 1):
        del values["mmax"]
    return RandAugment(space="timm", interpolation=interpolation, fill=fill, **values)
