"""Uniform numbers into the operations of RandAugment and TrivialAugmentWide, one row per image.

Composer's and timm's spaces are in `levels.py`. Here the magnitudes are torchvision's own:
`_augmentation_space` of transforms/autoaugment.py (v1) and of transforms/v2/_auto_augment.py, which differ in
the solarize threshold only. The scalar formulas compute every operation, level and sign of a policy once per
image size; a draw only looks rows up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.device.draws.levels import draw_levels, num_level_uniforms
from fastpipe.device.draws.params import STILL, Matrix, OpParams, whole
from fastpipe.errors import ArgumentError
from fastpipe.transforms.policy_specs import RandAugment, TrivialAugmentWide

POLICY_OPS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
"""The operations of both policies, in torchvision's order; each is drawn with probability 1/14."""

_AFFINE = frozenset({"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"})
_ENHANCE = frozenset({"Brightness", "Color", "Contrast", "Sharpness"})

Policy = RandAugment | TrivialAugmentWide


@dataclass(frozen=True, slots=True)
class _Table:
    """Every outcome of a policy at one image size: ops int16 [14]; values [14,L,2], matrices [14,L,2,6].

    The axis of length 2 is the sign: 0 unchanged, 1 negative (equal for operations without a sign).
    """

    ops: npt.NDArray[np.int16]
    values: npt.NDArray[np.float64]
    matrices: npt.NDArray[np.float64]


def num_uniforms(spec: Policy) -> int:
    """How many uniform numbers per image: (operation, sign) each time, or (operation, level, sign) once.

    For the spaces with a level per operation, see `levels.py`.
    """
    if isinstance(spec, TrivialAugmentWide):
        return 3
    return 2 * spec.length if _has_bins(spec) else num_level_uniforms(spec)


def _has_bins(spec: RandAugment) -> bool:
    return spec.num_magnitude_bins is not None


def draw_policy(spec: Policy, uniforms: npt.NDArray[np.float64], height: int, width: int) -> OpParams:
    """Operations for a batch from `uniforms`, float64 [B, num_uniforms(spec)] in [0, 1).

    height and width are the images' (translations depend on them). Raises ArgumentError for another shape.
    """
    num = num_uniforms(spec)
    if uniforms.ndim != 2 or uniforms.shape[1] != num:
        raise ArgumentError(f"uniforms must have the shape [B, {num}]. Found: {list(uniforms.shape)}")
    if isinstance(spec, RandAugment) and not _has_bins(spec):
        return draw_levels(spec, uniforms, height, width)
    from fastpipe.kernels import INTERPOLATIONS

    table = _table(spec, height, width)
    step = 2 if isinstance(spec, RandAugment) else 3
    ops = whole(uniforms[:, 0::step], len(POLICY_OPS))
    levels = whole(uniforms[:, 1:2], table.values.shape[1]) if step == 3 else np.zeros_like(ops)
    signs = (uniforms[:, step - 1 :: step] < 0.5).astype(np.int64)
    return OpParams(
        ops=table.ops[ops],
        values=table.values[ops, levels, signs],
        matrices=table.matrices[ops, levels, signs],
        interpolations=np.full(ops.shape, INTERPOLATIONS[spec.interpolation or "nearest"], dtype=np.uint8),
        fills=np.tile(np.asarray(spec.fill, dtype=np.uint8), (len(ops), 1)),
    )


@lru_cache(maxsize=64)
def _table(spec: Policy, height: int, width: int) -> _Table:
    from fastpipe.kernels import OPS

    levels = _levels(spec, height, width)
    num_levels = len(levels["ShearX"])
    values = np.zeros((len(POLICY_OPS), num_levels, 2))
    matrices = np.tile(np.asarray(STILL), (len(POLICY_OPS), num_levels, 2, 1))
    for row, name in enumerate(POLICY_OPS):
        for level, magnitude in enumerate(levels.get(name, ())):
            signed = name in _AFFINE or name in _ENHANCE
            for column, signed_magnitude in enumerate((magnitude, -magnitude if signed else magnitude)):
                values[row, level, column] = _value(name, signed_magnitude)
                if name in _AFFINE:
                    matrices[row, level, column] = _matrix(name, signed_magnitude, height, width)
    codes = [OPS["affine" if name in _AFFINE else name.lower()] for name in POLICY_OPS]
    return _Table(np.asarray(codes, dtype=np.int16), values, matrices)


def _levels(spec: Policy, height: int, width: int) -> Mapping[str, list[float]]:
    """The magnitudes of each operation: at the spec's level for RandAugment, at every level otherwise."""
    bins = spec.num_magnitude_bins or 0
    if isinstance(spec, RandAugment):
        side = 150.0 / 331.0
        ends = (0.3, 0.3, side * width, side * height, 30.0, 0.9, 0.9, 0.9, 0.9)
        magnitude = int(spec.magnitude or 0)
        steps, chosen = 4, slice(magnitude, magnitude + 1)
    else:
        ends = (0.99, 0.99, 32.0, 32.0, 135.0, 0.99, 0.99, 0.99, 0.99)
        steps, chosen = 6, slice(None)
    levels = {
        name: torch.linspace(0.0, end, bins, device="cpu").tolist()
        for name, end in zip(POLICY_OPS[1:10], ends, strict=True)
    }
    if spec.space == "torchvision_v2":
        levels["Posterize"] = (
            (8 - (torch.arange(bins, device="cpu") / ((bins - 1) / steps))).round().int().tolist()
        )
        levels["Solarize"] = [
            255.0 * share for share in torch.linspace(1.0, 0.0, bins, device="cpu").tolist()
        ]
    else:
        levels["Posterize"] = (
            8 - (torch.arange(bins, device="cpu") / ((bins - 1) / steps)).round().int()
        ).tolist()
        levels["Solarize"] = torch.linspace(255.0, 0.0, bins, device="cpu").tolist()
    return {name: values[chosen] for name, values in levels.items()}


def _value(name: str, magnitude: float) -> float:
    if name in _ENHANCE:
        return 1.0 + magnitude
    return magnitude if name in ("Posterize", "Solarize") else 0.0


def _matrix(name: str, magnitude: float, height: int, width: int) -> Matrix:
    """The inverse affine matrix that torchvision (or, for Rotate, Pillow itself) uses on a PIL image."""
    from fastpipe.kernels.matrices import rotate, torchvision_affine

    if name == "Rotate":
        return rotate(magnitude, height, width)
    if name in ("ShearX", "ShearY"):
        # Through degrees and back, as in torchvision: this changes the last bits.
        angle = math.degrees(math.atan(magnitude))
        shear = (angle, 0.0) if name == "ShearX" else (0.0, angle)
        return torchvision_affine(0.0, (0.0, 0.0), 1.0, shear, (0.0, 0.0))
    pixels = float(int(magnitude))
    translate = (pixels, 0.0) if name == "TranslateX" else (0.0, pixels)
    return torchvision_affine(0.0, translate, 1.0, (0.0, 0.0), (width * 0.5, height * 0.5))
