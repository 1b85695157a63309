"""Antialiased bilinear resize of a batch, with Pillow's bytes, as a function."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.checks import as_images, describe
from fastpipe.kernels.threads import run_ranges

__all__ = ["resize"]

_Images = TypeVar("_Images", npt.NDArray[np.uint8], torch.Tensor)
Numbers = npt.NDArray[np.int32]
_MAX_SIDE = 65_536


def resize(images: _Images, height: int, width: int, *, num_threads: int = 1) -> _Images:
    """New images uint8 [B,height,width,3] with the bytes of Pillow's `resize((width, height), BILINEAR)`.

    images: uint8 [B,H,W,3], array or CPU tensor; the result is of the same kind, for every `num_threads` the
    same. A triangle of at least two source pixels, as wide as the reduction demands; columns first, then
    rows. Pillow 13 does rows first for some shapes that are not square, and then differs by a level here and
    there. Raises ValueError for a wrong dtype or shape, or a side outside 1..65536.
    """
    from fastpipe.kernels.cpu_resize import resize_range

    _check_side("height", height)
    _check_side("width", width)
    source = as_images("images", images)
    num, old_height, old_width, _ = source.shape
    if max(old_height, old_width) > _MAX_SIDE:
        raise ValueError(f"images must have sides of at most {_MAX_SIDE} pixels. Found: {describe(images)}")
    out = np.empty((num, height, width, 3), np.uint8)
    flat, flat_out = source.reshape(num, -1), out.reshape(num, -1)
    rows, row_weights = _triangle(old_height, height)
    columns, column_weights = _triangle(old_width, width)
    run_ranges(
        lambda start, stop: resize_range(
            flat, flat_out, old_height, old_width, rows, row_weights, columns, column_weights, start, stop
        ),
        num,
        num_threads,
    )
    if isinstance(images, torch.Tensor):
        return torch.from_numpy(out)
    return out


def _check_side(name: str, side: object) -> None:
    if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= _MAX_SIDE:
        raise ValueError(f"{name} must be a whole number in 1..{_MAX_SIDE}. Found: {side!r}")


@lru_cache(maxsize=64)
def _triangle(old: int, new: int) -> tuple[Numbers, Numbers]:
    """Per output pixel the first source pixel, int32 [new], and the weights in 2^-22, int32 [new, taps].

    Formulas of Pillow 13.0, src/libImaging/Resample.c. A window never leaves the image: where it has fewer
    pixels than taps, it begins earlier and the first weights are 0.
    """
    from fastpipe.kernels.cpu_resize import PRECISION

    scale = old / new
    wide = max(scale, 1.0)
    windows = []
    for place in range(new):
        center = (place + 0.5) * scale
        low, high = max(int(center - wide + 0.5), 0), min(int(center + wide + 0.5), old)
        weights = [max(0.0, 1.0 - abs((x + low - center + 0.5) * (1.0 / wide))) for x in range(high - low)]
        total = _sum(weights)
        windows.append((low, [weight / total if total != 0.0 else weight for weight in weights]))
    taps = min(max(len(weights) for _, weights in windows), old)
    first, table = np.empty(new, np.int32), np.zeros((new, taps), np.int32)
    for place, (low, weights) in enumerate(windows):
        first[place] = min(low, old - taps)
        begin = low - int(first[place])
        # Weights of a triangle are never negative: half up is all of Pillow's rounding.
        table[place, begin : begin + len(weights)] = [math.floor(0.5 + w * (1 << PRECISION)) for w in weights]
    return first, table


def _sum(weights: list[float]) -> float:
    """Left to right, as C adds: `sum` compensates from Python 3.12 on."""
    total = 0.0
    for weight in weights:
        total += weight
    return total
