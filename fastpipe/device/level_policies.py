"""The policies with a level per operation and image: Composer's three spaces, and timm's.

A level is drawn first, then turned into an argument by the space's own formula, whose order of operations
is kept, so that the same level gives the same bits. Rotations go through Pillow's matrix one by one.
Formulas: Composer 0.7.1 (composer/utils/augmentation_primitives.py), timm 1.0.31 (timm/data/auto_augment.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastpipe.device.op_params import STILL, OpParams, whole
from fastpipe.transforms.specs import RandAugment

__all__ = ["COMPOSER_OPS", "TIMM_OPS", "draw_levels", "num_level_uniforms", "op_names"]

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

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
# Where an operation's argument enters Pillow's matrix.
_COEFFICIENT = {"ShearX": 1, "ShearY": 3, "TranslateX": 2, "TranslateY": 5}
_CODE = {"Rotate": "affine", "SolarizeAdd": "solarize_add", **dict.fromkeys(_COEFFICIENT, "affine")}


@dataclass(frozen=True, slots=True)
class _Draws:
    """The operations of one kind, all images together: numbers [N] each. level is the space's own scale."""

    level: Numbers
    side: Numbers
    raw: Numbers
    height: int
    width: int

    def signed(self, values: Numbers) -> Numbers:
        """Negative with probability one half."""
        return np.where(self.side < 0.5, -values, values)


def op_names(spec: RandAugment) -> tuple[str, ...]:
    """The operations of the spec's space."""
    if spec.space == "timm":
        return TIMM_OPS
    return COMPOSER_OPS[:_SAFE] if spec.space == "composer-safe" else COMPOSER_OPS


def num_level_uniforms(spec: RandAugment) -> int:
    """Uniform numbers per image: (operation, level, side) each time, for timm (apply, angle) as well."""
    return spec.length * (5 if spec.space == "timm" else 3)


def draw_levels(spec: RandAugment, uniforms: Numbers, height: int, width: int) -> OpParams:
    """Operations for a batch from `uniforms`, float64 [B, num_level_uniforms(spec)]."""
    from fastpipe.kernels import INTERPOLATIONS, OPS

    num, names, length = len(uniforms), op_names(spec), spec.length
    numbers = uniforms.reshape(num * length, num_level_uniforms(spec) // max(length, 1))
    chosen = whole(numbers[:, 0], len(names))
    levels = _levels(spec, numbers)
    codes = np.asarray([OPS[_CODE.get(name, name.lower())] for name in names], dtype=np.int16)
    ops, values = codes[chosen], np.zeros(len(numbers))
    matrices = np.tile(np.asarray(STILL), (len(numbers), 1))
    for place, name in enumerate(names):
        rows = np.flatnonzero(chosen == place)
        rule = _rule(spec, name)
        if len(rows) == 0 or rule is None:
            continue
        arguments = rule(_Draws(levels[rows], numbers[rows, 2], numbers[rows, 1], height, width))
        _write(name, rows, arguments, values, matrices, height, width)
    if spec.space == "timm":
        _skip(numbers[:, 3] > (spec.p or 0.0), ops, values, matrices)
    return OpParams(
        ops=ops.reshape(num, length),
        values=values.reshape(num, length),
        matrices=matrices.reshape(num, length, 6),
        interpolations=np.full(
            (num, length), INTERPOLATIONS[spec.interpolation or "bilinear"], dtype=np.uint8
        ),
        fills=np.tile(np.asarray(spec.fill, dtype=np.uint8), (num, 1)),
    )


def _write(
    name: str,
    rows: npt.NDArray[np.int64],
    arguments: Numbers,
    values: Numbers,
    matrices: Numbers,
    height: int,
    width: int,
) -> None:
    from fastpipe.kernels.matrices import rotate

    if name == "Rotate":
        for row, degrees in zip(rows.tolist(), arguments.tolist(), strict=True):
            matrices[row] = rotate(degrees, height, width)
    elif name in _COEFFICIENT:
        matrices[rows, _COEFFICIENT[name]] = arguments
    else:
        values[rows] = arguments


def _skip(skipped: Flags, ops: npt.NDArray[np.int16], values: Numbers, matrices: Numbers) -> None:
    from fastpipe.kernels import OPS

    ops[skipped] = OPS["identity"]
    values[skipped] = 0.0
    matrices[skipped] = STILL


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


_Rule = Callable[[_Draws], Numbers]


def _rule(spec: RandAugment, name: str) -> _Rule | None:
    """Draws into the arguments of one operation, or None for one without an argument."""
    if spec.space == "timm":
        return (_TIMM_INCREASING if spec.increasing else _TIMM).get(name) or _TIMM.get(name)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        if spec.space == "composer-original":
            return lambda draws: draws.level * 1.8 / 10 + 0.1
        severity = spec.severity or 0.0
        return lambda draws: _symmetric(draws, severity, dampen=name == "Brightness")
    return _COMPOSER.get(name)


def _symmetric(draws: _Draws, severity: float, *, dampen: bool) -> Numbers:
    """U(1, severity) or U(1 - 0.09 severity, 1), one half each; brightness above 1 is scaled by 0.75.

    So a brightness in (1, 4/3) darkens, as published. The level draws anew here, in these ranges.
    """
    low = 1.0 - 0.09 * severity
    factors = np.where(draws.side < 0.5, 1.0 + (severity - 1.0) * draws.raw, low + (1.0 - low) * draws.raw)
    return np.where(factors > 1.0, 0.75 * factors, factors) if dampen else factors


_COMPOSER: dict[str, _Rule] = {
    "Posterize": lambda draws: 4 - np.trunc(draws.level * 4 / 10),
    "Rotate": lambda draws: draws.signed(np.trunc(draws.level * 30 / 10)),
    "Solarize": lambda draws: 256 - np.trunc(draws.level * 256 / 10),
    "ShearX": lambda draws: draws.signed(draws.level * 0.3 / 10),
    "ShearY": lambda draws: draws.signed(draws.level * 0.3 / 10),
    "TranslateX": lambda draws: draws.signed(np.trunc(draws.level * (draws.width / 3) / 10)),
    "TranslateY": lambda draws: draws.signed(np.trunc(draws.level * (draws.height / 3) / 10)),
}


def _timm_enhance(draws: _Draws) -> Numbers:
    return (draws.level / 10.0) * 1.8 + 0.1


def _timm_enhance_increasing(draws: _Draws) -> Numbers:
    return np.maximum(0.1, 1.0 + draws.signed((draws.level / 10.0) * 0.9))


def _timm_posterize(draws: _Draws) -> Numbers:
    return np.trunc((draws.level / 10.0) * 4)


def _timm_solarize(draws: _Draws) -> Numbers:
    return np.minimum(256.0, np.trunc((draws.level / 10.0) * 256))


_ENHANCERS = ("Color", "Contrast", "Brightness", "Sharpness")
_TIMM: dict[str, _Rule] = {
    "Rotate": lambda draws: draws.signed((draws.level / 10.0) * 30.0),
    # 8 bits and more leave the image as it is; 0 and fewer leave black (Pillow 13 refuses, so timm fails).
    "Posterize": lambda draws: np.minimum(_timm_posterize(draws), 8.0),
    "Solarize": _timm_solarize,
    "SolarizeAdd": lambda draws: np.minimum(128.0, np.trunc((draws.level / 10.0) * 110)),
    **dict.fromkeys(_ENHANCERS, _timm_enhance),
    "ShearX": lambda draws: draws.signed((draws.level / 10.0) * 0.3),
    "ShearY": lambda draws: draws.signed((draws.level / 10.0) * 0.3),
    "TranslateX": lambda draws: draws.signed((draws.level / 10.0) * 0.45) * draws.width,
    "TranslateY": lambda draws: draws.signed((draws.level / 10.0) * 0.45) * draws.height,
}
_TIMM_INCREASING: dict[str, _Rule] = {
    "Posterize": lambda draws: np.maximum(4.0 - _timm_posterize(draws), 0.0),
    "Solarize": lambda draws: 256.0 - _timm_solarize(draws),
    **dict.fromkeys(_ENHANCERS, _timm_enhance_increasing),
}
