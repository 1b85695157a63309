"""What a policy draws for a batch: one row of operations per image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Letters used in shapes: B batch, D operations per image.
Matrix = tuple[float, float, float, float, float, float]
STILL: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The affine matrix that moves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpParams:
    """What was drawn, in the order of application along D.

    ops: int16 [B,D], codes of `fastpipe.kernels.OPS`. values: float64 [B,D]: enhancement factor as Pillow's
    ImageEnhance takes it, posterize bits, solarize threshold, addend of solarize_add, else 0. matrices:
    float64 [B,D,6], output to input pixel as Pillow's AFFINE takes it, the identity for other operations.
    interpolations: uint8 [B,D], codes of `fastpipe.kernels.INTERPOLATIONS`. fills: uint8 [B,3].
    """

    ops: npt.NDArray[np.int16]
    values: npt.NDArray[np.float64]
    matrices: npt.NDArray[np.float64]
    interpolations: npt.NDArray[np.uint8]
    fills: npt.NDArray[np.uint8]


def whole(uniforms: npt.NDArray[np.float64], num: int) -> npt.NDArray[np.int64]:
    """Uniform numbers to 0..num-1. The largest double below 1 may round up to num, so it is clipped."""
    return np.minimum((uniforms * num).astype(np.int64), num - 1)
