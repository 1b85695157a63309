"""Pillow's operations on a batch, as functions: one operation for all, or a chain per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.checks import as_array, as_flags, as_images, describe, require_finite
from fastpipe.kernels.ops import INTERPOLATIONS, OPS, POSTERIZE, SOLARIZE_ADD, VALUE_OPS
from fastpipe.kernels.threads import run_ranges

__all__ = ["apply_op", "augment_batch"]

Numbers = npt.NDArray[Any] | torch.Tensor
_Images = TypeVar("_Images", npt.NDArray[np.uint8], torch.Tensor)

# Far beyond any image; keeps every sum of a coordinate finite and exact enough to be outside or inside.
_MAX_COEFFICIENT = 1e9


def apply_op(
    images: _Images,
    op: str,
    value: float = 0.0,
    *,
    matrix: Sequence[float] | None = None,
    fill: Sequence[int] = (0, 0, 0),
    interpolation: str = "nearest",
    num_threads: int = 1,
) -> _Images:
    """New images with one operation applied to all, with the bytes Pillow gives.

    images: uint8 [B,H,W,3] or [H,W,3]. op: a name in `OPS`, which says what `value` means. matrix, fill (RGB
    0..255) and interpolation ("nearest", "bilinear") belong to "affine". Raises ValueError for anything else.
    """
    if op not in OPS:
        raise ValueError(f"op must be one of {', '.join(OPS)}. Found: {op!r}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be one of {', '.join(INTERPOLATIONS)}. Found: {interpolation!r}"
        )
    if (op == "affine") != (matrix is not None):
        raise ValueError(
            f"matrix must be given for op='affine' and only there. Found: op={op!r}, matrix={matrix!r}"
        )
    coefficients = np.asarray((1, 0, 0, 0, 1, 0) if matrix is None else matrix, np.float64)
    if coefficients.shape != (6,):
        raise ValueError(f"matrix must have 6 coefficients. Found: {matrix!r}")
    color = np.asarray(fill)
    if color.shape != (3,) or color.dtype.kind not in "iu" or color.min() < 0 or color.max() > 255:
        raise ValueError(f"fill must be 3 integers in 0..255. Found: {fill!r}")
    single = getattr(images, "ndim", 4) == 3
    batch = images[None] if single else images
    size = len(batch)
    result = augment_batch(
        batch,
        np.full((size, 1), OPS[op]),
        np.full((size, 1), value, np.float64),
        np.tile(coefficients, (size, 1, 1)),
        np.tile(color.astype(np.uint8), (size, 1)),
        np.full((size, 1), INTERPOLATIONS[interpolation], np.uint8),
        num_threads=num_threads,
    )
    return result[0] if single else result


def augment_batch(
    images: _Images,
    ops: Numbers,
    values: Numbers,
    matrices: Numbers | None,
    fills: Numbers | None,
    interpolations: Numbers | None,
    *,
    flip: Numbers | None = None,
    out: _Images | None = None,
    num_threads: int = 1,
) -> _Images:
    """Apply D operations to each image, each image its own, one after another; flip comes first.

    images: uint8 [B,H,W,3]. ops: codes of `OPS`, integers [B, D]. values: numbers [B, D]. matrices: float
    [B, D, 6] (None without an affine op). fills: integers 0..255 [B, 3] (None: black). interpolations:
    integers [B, D], 0 nearest, 1 bilinear (None: nearest). flip: bool or uint8 [B].
    Statistics are of the image as it is at that point. Returns `out`, or a new array or tensor like images;
    `out` may be `images`. Each result has Pillow's bytes, for every `num_threads`.
    Raises ValueError for a wrong dtype, shape, code or number.
    """
    from fastpipe.kernels.cpu_augment import augment_range

    source = as_images("images", images)
    num_images, height, width, _ = source.shape
    codes = _checked_codes(ops, num_images)
    numbers = _checked_values(values, codes)
    warps = _checked_matrices(matrices, codes)
    colors = _checked_bytes("fills", fills, (num_images, 3), 255)
    modes = _checked_bytes("interpolations", interpolations, codes.shape, 1)
    flags = as_flags("flip", flip, num_images)
    result = _new_like(images, source.shape) if out is None else out
    target = as_images("out", result, written=True)
    if target.shape != source.shape:
        raise ValueError(f"out must be {list(source.shape)}, like images. Found: {describe(result)}")
    in_place = target.ctypes.data == source.ctypes.data
    if not in_place and np.may_share_memory(source, target):
        raise ValueError("out must be images itself or share no memory with it. Found: a part shared.")
    flat, flat_out = source.reshape(num_images, -1), target.reshape(num_images, -1)
    run_ranges(
        lambda start, stop: augment_range(
            flat, flat_out, codes, numbers, warps, colors, modes, flags, height, width, in_place, start, stop
        ),
        num_images,
        num_threads,
    )
    return result


def _new_like(images: _Images, shape: tuple[int, ...]) -> _Images:
    if isinstance(images, torch.Tensor):
        return torch.empty(shape, dtype=torch.uint8)
    return np.empty(shape, np.uint8)


def _checked_codes(ops: Numbers, num_images: int) -> npt.NDArray[np.int64]:
    array = as_array("ops", ops)
    if array.dtype.kind not in "iu" or array.ndim != 2 or len(array) != num_images:
        raise ValueError(f"ops must be integers [{num_images}, D]. Found: {describe(ops)}")
    codes = np.array(array, dtype=np.int64, order="C")
    unknown = ~np.isin(codes, list(OPS.values()))
    if unknown.any():
        raise ValueError(f"ops must be codes of OPS, {OPS}. Found: {codes[unknown][0]}")
    return codes


def _checked_values(values: Numbers, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    array = as_array("values", values)
    if array.dtype.kind not in "fiu" or array.shape != codes.shape:
        raise ValueError(f"values must be numbers {list(codes.shape)}, like ops. Found: {describe(values)}")
    numbers = np.array(array, dtype=np.float64, order="C")
    require_finite("values", numbers[np.isin(codes, list(VALUE_OPS))])
    for name, code, low, high in (("posterize", POSTERIZE, 0, 8), ("solarize_add", SOLARIZE_ADD, -255, 255)):
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
