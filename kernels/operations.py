"""The operations on each image of a batch: the struct of arrays that all engines share, and its checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.checks import as_array, describe, require_finite
from fastpipe.kernels.ops import OPS, VALUE_OPS, whole_ranges

__all__ = ["Operations"]

Numbers = npt.NDArray[Any] | torch.Tensor

# Far beyond any image; keeps every sum of a coordinate finite and exact enough to be outside or inside.
_MAX_COEFFICIENT = 1e9
_CODES = np.array(sorted(OPS.values()))
_READS_VALUE = np.isin(np.arange(_CODES.max() + 1), list(VALUE_OPS))


@dataclass(frozen=True, slots=True)
class Operations:
    """D operations for each of B images, as `augment_batch` takes them; None has the same meaning."""

    ops: Numbers
    values: Numbers
    matrices: Numbers | None = None
    fills: Numbers | None = None
    interpolations: Numbers | None = None


CheckedOperations = tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.uint8],
    npt.NDArray[np.uint8],
]
"""ops, values, matrices, fills, interpolations, in the types and order that the kernels take."""


def checked_operations(operations: Operations, num_images: int) -> CheckedOperations:
    """Copies that a kernel may index by. Raises ValueError for a wrong dtype, shape, code or number."""
    codes = _checked_codes(operations.ops, num_images)
    return (
        codes,
        _checked_values(operations.values, codes),
        _checked_matrices(operations.matrices, codes),
        _checked_bytes("fills", operations.fills, (num_images, 3), 255),
        _checked_bytes("interpolations", operations.interpolations, codes.shape, 1),
    )


def _checked_codes(ops: Numbers, num_images: int) -> npt.NDArray[np.int64]:
    array = as_array("ops", ops)
    if array.dtype.kind not in "iu" or array.ndim != 2 or len(array) != num_images:
        raise ValueError(f"ops must be integers [{num_images}, D]. Found: {describe(ops)}")
    codes = np.array(array, dtype=np.int64, order="C")
    unknown = (codes < 0) | (codes >= len(_CODES))
    if unknown.any():
        raise ValueError(f"ops must be codes of OPS, {OPS}. Found: {codes[unknown][0]}")
    return codes


def _checked_values(values: Numbers, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    array = as_array("values", values)
    if array.dtype.kind not in "fiu" or array.shape != codes.shape:
        raise ValueError(f"values must be numbers {list(codes.shape)}, like ops. Found: {describe(values)}")
    numbers = np.array(array, dtype=np.float64, order="C")
    require_finite("values", numbers[_READS_VALUE[codes]])
    for name, code, low, high in whole_ranges():
        used = numbers[codes == code]
        wrong = (used != np.floor(used)) | (used < low) | (used > high)
        if wrong.any():
            raise ValueError(
                f"values of {name} must be whole numbers in {low}..{high}. Found: {used[wrong][0]}"
            )
    return numbers


def _checked_matrices(matrices: Numbers | None, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    affine = codes == OPS["affine"]
    if matrices is None:
        if affine.any():
            raise ValueError(
                f"matrices must be float {[*codes.shape, 6]} where ops has 'affine'. Found: None"
            )
        return np.zeros((*codes.shape, 6), np.float64)
    array = as_array("matrices", matrices)
    if array.dtype.kind != "f" or array.shape != (*codes.shape, 6):
        raise ValueError(f"matrices must be float {[*codes.shape, 6]}. Found: {describe(matrices)}")
    warps = np.array(array, dtype=np.float64, order="C")
    require_finite("matrices", warps[affine])
    if affine.any() and np.abs(warps[affine]).max() > _MAX_COEFFICIENT:
        largest = np.abs(warps[affine]).max()
        raise ValueError(f"matrices must have coefficients within +-{_MAX_COEFFICIENT:g}. Found: {largest}")
    return warps


def _checked_bytes(
    name: str, value: Numbers | None, shape: tuple[int, ...], largest: int
) -> npt.NDArray[np.uint8]:
    if value is None:
        return np.zeros(shape, np.uint8)
    array = as_array(name, value)
    if array.dtype.kind not in "iu" or array.shape != shape:
        raise ValueError(f"{name} must be integers {list(shape)}. Found: {describe(value)}")
    if array.size and (array.min() < 0 or array.max() > largest):
        raise ValueError(f"{name} must be in 0..{largest}. Found: {array.min()}..{array.max()}")
    return np.array(array, dtype=np.uint8, order="C")
