"""The policies with a level per operation and image: Composer's three spaces, and timm's.

A level is drawn first, then the space's own formula, one `_Rule` per operation, turns it into an argument.
The order of arithmetic is kept, so the same level gives the same bits.
Formulas: Composer 0.7.1 (composer/utils/augmentation_primitives.py), timm 1.0.31 (timm/data/auto_augment.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from fastpipe.device.draws.params import OpParams
from fastpipe.transforms.policy_specs import RandAugment

Numbers = npt.NDArray[np.float64]

COMPOSER_OPS = (
    "AutoContrast",
    "Equalize",
    "Posterize",
    "Rotate",
    "Solarize",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
)
"""Composer's thirteen; its "safe" set is the first nine. Each is equally likely."""

TIMM_OPS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
)
"""timm's fifteen, in its order. Each is equally likely."""

_SAFE = 9
# Where an operation's argument enters Pillow's matrix; Rotate fills all six.
_COEFFICIENT = {"ShearX": 1, "ShearY": 3, "TranslateX": 2, "TranslateY": 5}
_WARPS = ("Rotate", *_COEFFICIENT)
_ENHANCERS = ("Color", "Contrast", "Brightness", "Sharpness")
_VALUE, _ROTATE = 6, 7
_MOST_DEGREES = 30


@dataclass(frozen=True, slots=True)
class _Rule:
    """How `cpu.counters.fill_levels` makes an argument of a level:

    argument = max(offset + sign * min(f(level * scale), cap) * side, low).

    f drops the fraction if `whole`. sign is -1 if `falling`, else random if `signed`. side is 1, or the
    image's width or height in pixels for timm's relative translations. Composer computes
    level * scale / 10, timm level / 10 * scale.
    """

    scale: float = 0.0
    whole: bool = False
    signed: bool = False
    falling: bool = False
    offset: float = 0.0
    cap: float = math.inf
    low: float = -math.inf
    side: float = 1.0


@dataclass(frozen=True, slots=True)
class _Table:
    """The operations of a space: kernel codes, where arguments go (matrix place, value, rotation), rules."""

    codes: npt.NDArray[np.int16]
    targets: npt.NDArray[np.int64]
    rules: Numbers  # one column for each field of _Rule
    symmetric: npt.NDArray[np.bool_]
    brightness: int


def op_names(spec: RandAugment) -> tuple[str, ...]:
    """The operations of the spec's space."""
    if spec.space == "timm":
        return TIMM_OPS
    return COMPOSER_OPS[:_SAFE] if spec.space == "composer-safe" else COMPOSER_OPS


def num_level_uniforms(spec: RandAugment) -> int:
    """Uniform numbers per image: (operation, level, side) each time, for timm (apply, angle) as well."""
    return spec.length * _num_uniforms_each(spec)


def _num_uniforms_each(spec: RandAugment) -> int:
    return 5 if spec.space == "timm" else 3


def draw_levels(spec: RandAugment, uniforms: Numbers, height: int, width: int) -> OpParams:
    """Operations for a batch from `uniforms`, float64 [B, num_level_uniforms(spec)]."""
    num, length = len(uniforms), spec.length
    rows = num * length
    numbers = np.ascontiguousarray(uniforms).reshape(rows, _num_uniforms_each(spec))
    table = _table(spec, height, width)
    ops, values = np.empty(rows, np.int16), np.empty(rows, np.float64)
    matrices, degrees = np.empty((rows, 6), np.float64), np.empty(rows, np.float64)
    left = _fill_levels()(
        numbers,
        _levels(spec, numbers),
        table.codes,
        table.targets,
        table.rules,
        table.symmetric,
        table.brightness,
        float(spec.severity or 0.0),
        spec.space == "timm",
        float(spec.p or 0.0) if spec.space == "timm" else 1.0,
        ops,
        values,
        matrices,
        degrees,
        _whole_rotations(height, width),
    )
    if left:
        from fastpipe.kernels.matrices import rotate

        turned = np.flatnonzero(~np.isnan(degrees))
        matrices[turned] = [rotate(angle, height, width) for angle in degrees[turned].tolist()]
    interpolations, fills = np.empty((num, length), np.uint8), np.empty((num, 3), np.uint8)
    interpolations.fill(_interpolation(spec.interpolation or "bilinear"))
    fills[:] = np.asarray(spec.fill, dtype=np.uint8)
    return OpParams(
        ops=ops.reshape(num, length),
        values=values.reshape(num, length),
        matrices=matrices.reshape(num, length, 6),
        interpolations=interpolations,
        fills=fills,
    )


@cache
def _fill_levels() -> Callable[..., int]:
    """The compiled function. An import statement in each call would cost it 0.6 us."""
    from fastpipe.kernels.cpu.counters import fill_levels

    return fill_levels


@cache
def _interpolation(name: str) -> int:
    from fastpipe.kernels import INTERPOLATIONS

    return INTERPOLATIONS[name]


@lru_cache(maxsize=64)
def _whole_rotations(height: int, width: int) -> Numbers:
    """float64 [61, 6]: Composer's rotations are whole degrees in -30..30."""
    from fastpipe.kernels.matrices import rotate

    angles = range(-_MOST_DEGREES, _MOST_DEGREES + 1)
    return np.array([rotate(float(angle), height, width) for angle in angles])


@lru_cache(maxsize=64)
def _table(spec: RandAugment, height: int, width: int) -> _Table:
    from fastpipe.kernels import OPS

    names = op_names(spec)
    rules = _timm_rules(spec, height, width) if spec.space == "timm" else _composer_rules(height, width)
    spelled = {"SolarizeAdd": "solarize_add", **dict.fromkeys(_WARPS, "affine")}
    targets = {"Rotate": _ROTATE, **_COEFFICIENT}
    return _Table(
        np.asarray([OPS[spelled.get(name, name.lower())] for name in names], dtype=np.int16),
        np.asarray([targets.get(name, _VALUE) for name in names]),
        np.asarray([astuple(rules.get(name, _Rule())) for name in names], dtype=np.float64),
        np.asarray([name in _ENHANCERS and spec.space == "composer" for name in names]),
        names.index("Brightness") if "Brightness" in names else -1,
    )


def _levels(spec: RandAugment, numbers: Numbers) -> Numbers:
    if spec.space != "timm":
        return 0.1 + ((spec.severity or 0.0) - 0.1) * numbers[:, 1]
    magnitude, mstd = spec.magnitude or 0.0, spec.mstd or 0.0
    if mstd == np.inf:
        levels = magnitude * numbers[:, 1]
    elif mstd > 0.0:
        # Box and Muller: two uniform numbers make a normal one.
        radius = np.sqrt(-2.0 * np.log1p(-numbers[:, 1]))
        levels = magnitude + mstd * radius * np.cos(2.0 * np.pi * numbers[:, 4])
    else:
        levels = np.full(len(numbers), float(magnitude))
    return np.clip(levels, 0.0, spec.mmax or 10.0)


def _composer_rules(height: int, width: int) -> Mapping[str, _Rule]:
    """The enhancers are those of "original"; the other space draws them symmetrically."""
    shear = _Rule(0.3, signed=True)
    return {
        "Posterize": _Rule(4, whole=True, falling=True, offset=4),
        "Rotate": _Rule(30, whole=True, signed=True),
        "Solarize": _Rule(256, whole=True, falling=True, offset=256),
        "ShearX": shear,
        "ShearY": shear,
        "TranslateX": _Rule(width / 3, whole=True, signed=True),
        "TranslateY": _Rule(height / 3, whole=True, signed=True),
        **dict.fromkeys(_ENHANCERS, _Rule(1.8, offset=0.1)),
    }


def _timm_rules(spec: RandAugment, height: int, width: int) -> Mapping[str, _Rule]:
    """8 bits leave the image unchanged; 0 bits leave black. Pillow 13 refuses 0, so timm fails there."""
    shear = _Rule(0.3, signed=True)
    enhance, posterize = _Rule(1.8, offset=0.1), _Rule(4, whole=True, cap=8)
    solarize = _Rule(256, whole=True, cap=256)
    if spec.increasing:
        enhance = _Rule(0.9, signed=True, offset=1, low=0.1)
        posterize = _Rule(4, whole=True, falling=True, offset=4, low=0)
        solarize = _Rule(256, whole=True, falling=True, offset=256, cap=256)
    return {
        "Rotate": _Rule(30, signed=True),
        "Posterize": posterize,
        "Solarize": solarize,
        "SolarizeAdd": _Rule(110, whole=True, cap=128),
        **dict.fromkeys(_ENHANCERS, enhance),
        "ShearX": shear,
        "ShearY": shear,
        "TranslateX": _Rule(0.45, signed=True, side=width),
        "TranslateY": _Rule(0.45, signed=True, side=height),
    }
