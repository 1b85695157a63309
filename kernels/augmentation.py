"""Pillow's operations on a batch, as functions: one operation for all, or a chain per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.chain import apply_chain, chunks
from fastpipe.kernels.checks import as_flags, as_images, describe
from fastpipe.kernels.operations import Numbers, Operations, checked_operations
from fastpipe.kernels.ops import INTERPOLATIONS, OPS
from fastpipe.kernels.threads import run_ranges

__all__ = ["apply_op", "augment_batch"]

_Images = TypeVar("_Images", npt.NDArray[np.uint8], torch.Tensor)


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
    """Apply D operations to each image one after another, each image with its own; flip comes first.

    images: uint8 [B,H,W,3]. ops: codes of `OPS`, integers [B, D]. values: numbers [B, D]. matrices: float
    [B, D, 6] (None without an affine op). fills: integers 0..255 [B, 3] (None: black). interpolations:
    integers [B, D], 0 nearest, 1 bilinear (None: nearest). flip: bool or uint8 [B].
    Statistics are taken of the image at that point. Returns `out`, or a new array or tensor like images;
    `out` may be `images`. Each result has Pillow's bytes, for every `num_threads`.
    Raises ValueError for a wrong dtype, shape, code or number.
    """
    from fastpipe.kernels.cpu.output import finish_images

    source = as_images("images", images)
    num_images, height, width, _ = source.shape
    chain = checked_operations(Operations(ops, values, matrices, fills, interpolations), num_images)
    flags = as_flags("flip", flip, num_images)
    result = _new_like(images, source.shape) if out is None else out
    target = as_images("out", result, written=True)
    if target.shape != source.shape:
        raise ValueError(f"out must be {list(source.shape)}, like images. Found: {describe(result)}")
    in_place = target.ctypes.data == source.ctypes.data
    if not in_place and np.may_share_memory(source, target):
        raise ValueError("out must be images itself or share no memory with it. Found: a part shared.")
    flat, flat_out = source.reshape(num_images, -1), target.reshape(num_images, -1)
    levels = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    rows, columns = np.arange(height, dtype=np.int64), np.arange(width, dtype=np.int64)

    def augment_part(start: int, stop: int) -> None:
        for ids in chunks(np.arange(start, stop), flat.shape[1]):
            state = apply_chain(flat, ids, flags, chain, height, width, detach=in_place)
            scratch = np.empty(width, np.int32), np.empty_like(levels), np.empty(1, np.uint8)
            finish_images(*state, flat_out, levels, rows, columns, width, True, True, *scratch)

    run_ranges(augment_part, num_images, num_threads)
    return result


def _new_like(images: _Images, shape: tuple[int, ...]) -> _Images:
    if isinstance(images, torch.Tensor):
        return torch.empty(shape, dtype=torch.uint8, device="cpu")
    return np.empty(shape, np.uint8)
