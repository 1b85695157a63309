"""The plan of a CUDA batch in numpy: the slow reference of `fastpipe.kernels.cuda.plan`, number for number.

    numbers = [ whole: D x B rows | reals: D x B factors, float32 bits | maps | lists of images ]

Everything that must be exact and is not per pixel happens here, in float64: fixed-point coefficients of
warps, and the source columns and rows where Pillow walks in float64. No GPU is needed to make or test a plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.cuda.layout import (
    FILL,
    FIXED,
    FLIP,
    KIND,
    LINE_MAPS,
    LINES,
    MATRIX,
    OP,
    PIXELS,
    SLOT,
    VALUE,
    WHOLE_ROW,
)
from fastpipe.kernels.ops import (
    AFFINE,
    AUTOCONTRAST,
    COLOR,
    CONTRAST,
    EQUALIZE,
    POSTERIZE,
    SHARPNESS,
    SOLARIZE,
    SOLARIZE_ADD,
    VALUE_OPS,
)

PATHS = ("statistics", "tables", "bilinear", "nearest", "blended")
"""The lists of one depth, in this order: images that need statistics, a table, a warp, a blend."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MAX_ELEMENTS = 2**32 - 1
_MAX_IMAGES = 65535
_MAX_SIDE = 65535
_MAX_MAPS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaPlan:
    """`numbers` int32 goes to the device; `header` stays.

    header: images, depth, where reals, maps and lists begin; then start and count of each path per depth.
    """

    numbers: npt.NDArray[np.int32]
    header: tuple[int, ...]


def make_plan(
    shape: Sequence[int],
    ops: npt.NDArray[Any] | None,
    values: npt.NDArray[Any] | None,
    matrices: npt.NDArray[Any] | None,
    fills: npt.NDArray[Any] | None,
    interpolations: npt.NDArray[Any] | None,
    flip: npt.NDArray[Any] | None,
) -> CudaPlan:
    """The plan of one batch. Arguments as `augment_batch` takes them, shape [B,H,W,3]; ops None: only flip.

    Raises ValueError for a batch beyond the kernels' 32-bit indices.
    """
    check_elements(shape)
    num, height, width = int(shape[0]), int(shape[1]), int(shape[2])
    codes = np.zeros((num, 1), np.int64) if ops is None else np.asarray(ops, np.int64)
    depth = codes.shape[1]
    numbers = np.zeros(codes.shape) if values is None else np.asarray(values, np.float64)
    warps = np.zeros((num, depth, 6)) if matrices is None else np.asarray(matrices, np.float64)
    bilinear = np.zeros(codes.shape, bool) if interpolations is None else np.asarray(interpolations) == 1
    bilinear &= ~_moves_whole_pixels(warps)
    whole = np.zeros((depth, num, WHOLE_ROW), np.int64)
    whole[:, :, OP] = codes.T
    whole[:, :, VALUE] = _whole_values(codes, numbers).T
    if flip is not None:
        whole[0, :, FLIP] = np.asarray(flip) != 0
    if fills is not None:
        whole[:, :, FILL : FILL + 3] = fills
    reals = np.where(np.isin(codes, list(VALUE_OPS)), numbers, 0.0).T.astype(np.float32)
    maps = _fill_warps(whole, codes, warps, bilinear, height, width)
    lists, spans = _lists(whole, codes, bilinear)
    rows = whole.astype(np.int32)
    _fill_bilinear(rows, codes, warps, bilinear)
    parts = [rows.ravel(), reals.view(np.int32).ravel(), maps, lists]
    starts = np.cumsum([part.size for part in parts[:3]]).tolist()
    # An even number in all, so that it can be read as int64.
    parts.append(np.zeros((starts[-1] + lists.size) % 2, np.int32))
    return CudaPlan(numbers=np.concatenate(parts), header=(num, depth, *starts, *spans))


def check_elements(shape: Sequence[int], name: str = "images") -> None:
    """Raise ValueError for a batch [B,H,W,3] that is empty or beyond the kernels' 32-bit indices."""
    if min(shape) < 1:
        raise ValueError(
            f"{name} must hold at least one image of at least 1 x 1 pixels. Found: {list(shape)}"
        )
    if shape[0] > _MAX_IMAGES or math.prod(shape) > _MAX_ELEMENTS or max(shape[1:3]) > _MAX_SIDE:
        raise ValueError(
            f"{name} must be at most {_MAX_IMAGES} of together {_MAX_ELEMENTS} elements on CUDA, with sides "
            f"of at most {_MAX_SIDE} pixels. Found: {list(shape)}. Remedy: fewer images in a batch"
        )


def _check_maps(num: int) -> None:
    """Raise ValueError where nearest warps' maps are longer than the int32 that says where one starts."""
    if num > _MAX_MAPS:
        raise ValueError(
            f"the source pixels of nearest warps must be at most {_MAX_MAPS} numbers in a batch on CUDA "
            f"(2 for each pixel of a warp beyond fixed point). Found: {num}. Remedy: fewer images in a batch"
        )


def _whole_values(codes: Ints, numbers: Floats) -> Ints:
    """`value` where a whole number is enough: a level is below a threshold if it is below its ceiling."""
    used = np.isin(codes, (POSTERIZE, SOLARIZE, SOLARIZE_ADD))
    return np.clip(np.ceil(np.where(used, numbers, 0.0)), -255, 256).astype(np.int64)


def _lists(
    whole: Ints, codes: Ints, bilinear: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int32], list[int]]:
    """The images of each path, one list after another, and where each begins and how long it is."""
    lists, spans, start = [], [], 0
    for depth in range(codes.shape[1]):
        column, smooth = codes[:, depth], bilinear[:, depth]
        counted, affine = np.isin(column, (AUTOCONTRAST, EQUALIZE, CONTRAST)), column == AFFINE
        blended = np.isin(column, (COLOR, SHARPNESS))
        # Kernels find the counts of an image by its place in the list of those that are counted.
        whole[depth, counted, SLOT] = np.arange(np.count_nonzero(counted))
        for mask in (counted, ~affine & ~blended, affine & smooth, affine & ~smooth, blended):
            lists.append(np.flatnonzero(mask).astype(np.int32))
            spans += [start, lists[-1].size]
            start += lists[-1].size
    return np.concatenate(lists), spans


def _fill_warps(
    whole: Ints, codes: Ints, warps: Floats, bilinear: npt.NDArray[np.bool_], height: int, width: int
) -> npt.NDArray[np.int32]:
    """Fill KIND and FIXED of every warp; return the maps."""
    maps: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
    start = 0
    for depth in range(codes.shape[1]):
        affine, matrix = codes[:, depth] == AFFINE, warps[:, depth]
        rows = whole[depth]
        nearest = affine & ~bilinear[:, depth]
        straight = nearest & (matrix[:, 1] == 0.0) & (matrix[:, 3] == 0.0)
        _check_maps(start + int(np.count_nonzero(straight)) * (width + height))
        made = _line_maps(matrix[straight], height, width)
        rows[straight, KIND] = LINES
        rows[straight, LINE_MAPS] = start + np.arange(len(made)) * (width + height)
        maps.append(made.ravel())
        start += made.size
        turned = np.flatnonzero(nearest & ~straight)
        fixed = _fixed_coefficients(matrix[turned])
        rows[turned, FIXED : FIXED + 6] = fixed
        small = _fits_fixed_point(matrix[turned], height, width)
        listed = np.flatnonzero(~(small & _fits_int32(fixed, height, width)))
        _check_maps(start + len(listed) * 2 * height * width)
        for place in listed:
            walked = _walk(matrix[turned[place]], height, width)
            made = _fixed_walk(fixed[place], height, width) if small[place] else walked
            rows[turned[place], KIND], rows[turned[place], LINE_MAPS] = PIXELS, start
            maps.append(made.ravel())
            start += made.size
    return np.concatenate(maps)


def _fill_bilinear(
    rows: npt.NDArray[np.int32], codes: Ints, warps: Floats, bilinear: npt.NDArray[np.bool_]
) -> None:
    """Fill MATRIX of every bilinear warp."""
    reals = rows.view(np.float64)
    for depth in range(codes.shape[1]):
        used = (codes[:, depth] == AFFINE) & bilinear[:, depth]
        reals[depth, used, MATRIX : MATRIX + 6] = warps[used, depth]


def _moves_whole_pixels(warps: Floats) -> npt.NDArray[np.bool_]:
    """Then all bilinear weights are 0, and the cheaper nearest gives the same bytes. [..., 6] to [...]."""
    straight = (warps[..., [0, 1, 3, 4]] == (1.0, 0.0, 0.0, 1.0)).all(axis=-1)
    moves = warps[..., [2, 5]]
    return np.asarray(straight & (moves == np.floor(moves)).all(axis=-1))


def _fixed_coefficients(matrices: Floats) -> Ints:
    """[K, 6] in 16.16, the origin at the first pixel's middle (rules.fixed_point)."""
    a, b, c, d, e, f = matrices.T
    ordered = np.stack([a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5], axis=1)
    return np.asarray(np.floor(np.clip(ordered, -1e9, 1e9) * 65536.0 + 0.5), np.int64)


def _corners(coefficients: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Both coordinates at the four corners (0 or width, 0 or height): [K, 8]."""
    a, b, c, d, e, f = coefficients.T
    corners = [(x, y) for y in (0, height) for x in (0, width)]
    return np.stack([v for x, y in corners for v in (x * a + y * b + c, x * d + y * e + f)], axis=-1)


def _fits_fixed_point(matrices: Floats, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Where Pillow takes fixed point. Beyond, it walks in float64."""
    return np.asarray((np.abs(_corners(matrices, height, width)) < 32768.0).all(axis=1))


def _fits_int32(fixed: Ints, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Where the kernel's 32-bit sums do not wrap (almost always where `_fits_fixed_point`)."""
    corners = _corners(fixed, height - 1, width - 1)
    return np.asarray(((corners >= -(2**31)) & (corners < 2**31)).all(axis=1))


def _steps(first: Floats, step: Floats, num: int) -> Floats:
    """first, first + step, first + step + step, ... [..., num], rounded at each addition as Pillow's."""
    terms = np.repeat(step[..., None], num, axis=-1)
    terms[..., 0] = first
    return np.add.accumulate(terms, axis=-1)


def _inside(coordinates: Floats, size: int) -> npt.NDArray[np.int32]:
    """The pixel of each coordinate, -1 outside of 0..size."""
    inside = (coordinates >= 0.0) & (coordinates < size)
    return np.where(inside, coordinates, -1.0).astype(np.int32)


def _line_maps(matrices: Floats, height: int, width: int) -> npt.NDArray[np.int32]:
    """Source columns, then source rows, of matrices without rotation or shear: [K, width + height]."""
    columns = _steps(matrices[:, 2] + matrices[:, 0] * 0.5, matrices[:, 0], width)
    rows = _steps(matrices[:, 5] + matrices[:, 4] * 0.5, matrices[:, 4], height)
    return np.concatenate([_inside(columns, width), _inside(rows, height)], axis=1)


def _walk(matrix: Floats, height: int, width: int) -> npt.NDArray[np.int32]:
    """Source column and row of each pixel, [H, W, 2], by Pillow's walk in float64."""
    a, b, c, d, e, f = matrix
    columns = _steps(_steps(c + a * 0.5 + b * 0.5, b, height), np.full(height, a), width)
    rows = _steps(_steps(f + d * 0.5 + e * 0.5, e, height), np.full(height, d), width)
    return np.stack([_inside(columns, width), _inside(rows, height)], axis=-1)


def _fixed_walk(fixed: Ints, height: int, width: int) -> npt.NDArray[np.int32]:
    """Source column and row of each pixel, [H, W, 2], by fixed point in 64 bits."""
    y, x = np.mgrid[0:height, 0:width]
    columns = (fixed[2] + fixed[0] * x + fixed[1] * y) >> 16
    rows = (fixed[5] + fixed[3] * x + fixed[4] * y) >> 16
    return np.stack([np.clip(columns, -1, width), np.clip(rows, -1, height)], axis=-1).astype(np.int32)
