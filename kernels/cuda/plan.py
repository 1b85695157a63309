"""The CUDA kernels' parameters for a batch, as one int32 buffer computed on the host.

    numbers = [ whole: D x B rows | reals: D x B factors, float32 bits | maps | lists of images ]

Everything exact that is not per pixel happens here in float64, by compiled code (`cpu/plan.py`): fixed-point
coefficients of warps, and the source columns and rows if Pillow walks in float64. No GPU
is needed to make or test a plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.cuda.layout import REAL_ROW, WHOLE_ROW

__all__ = ["make_plan"]

PATHS = ("statistics", "tables", "bilinear", "nearest", "blended")
"""The lists of one depth, in this order: images that need statistics, a table, a warp, a blend."""

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
    codes = _array(ops, (num, 1), np.int16)
    depth = codes.shape[1]
    warps, modes = (
        _array(matrices, (num, depth, 6), np.float64),
        _array(interpolations, codes.shape, np.uint8),
    )
    paths, kinds = np.empty((2, depth, num), np.uint8)
    lengths = np.empty((depth, len(PATHS)), np.int64)
    kernels = _compiled()
    maps = kernels.count_plan(codes, warps, modes, height, width, paths, kinds, lengths)
    _check_maps(maps)
    ends = lengths.ravel().cumsum().tolist()
    sizes = (depth * num * WHOLE_ROW, depth * num, maps, ends[-1])
    starts = (sizes[0], sizes[0] + sizes[1], sizes[0] + sizes[1] + sizes[2])
    total = starts[-1] + sizes[-1]
    # An even number in all, so that it can be read as int64.
    numbers = np.empty(total + total % 2, np.int32)
    numbers[total:] = 0
    rows = numbers[: sizes[0]]
    kernels.fill_plan(
        codes,
        _array(values, codes.shape, np.float64),
        warps,
        _array(fills, (num, 3), np.uint8),
        _array(None if flip is None else np.asarray(flip) != 0, (num,), np.uint8),
        height,
        width,
        paths,
        kinds,
        lengths,
        rows.reshape(depth, num, WHOLE_ROW),
        rows.view(np.float64).reshape(depth, num, REAL_ROW),
        numbers[starts[0] : starts[1]].view(np.float32).reshape(depth, num),
        numbers[starts[1] : starts[2]],
        numbers[starts[2] :],
    )
    spans = [
        number for pair in zip([0, *ends[:-1]], lengths.ravel().tolist(), strict=True) for number in pair
    ]
    return CudaPlan(numbers=numbers, header=(num, depth, *starts, *spans))


@cache
def _compiled() -> ModuleType:
    """The compiled functions, which import numba. An import statement in each call would cost it 0.6 us."""
    from fastpipe.kernels.cpu import plan as cpu_plan

    return cpu_plan


def _array(given: npt.NDArray[Any] | None, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """C-contiguous, of this type; zeros of this shape for None."""
    return np.zeros(shape, dtype) if given is None else np.ascontiguousarray(given, dtype)


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
    """Raise ValueError if the maps of nearest warps are too long for an int32 start index."""
    if num > _MAX_MAPS:
        raise ValueError(
            f"the source pixels of nearest warps must be at most {_MAX_MAPS} numbers in a batch on CUDA "
            f"(2 for each pixel of a warp beyond fixed point). Found: {num}. Remedy: fewer images in a batch"
        )
