"""Resize of a batch: antialiased bilinear and nearest with Pillow's bytes, and torch's nearest."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.checks import as_images
from fastpipe.kernels.rules import PRECISION
from fastpipe.kernels.threads import run_ranges

__all__ = ["RESIZE_MODES", "nearest_sources", "resize"]

RESIZE_MODES = ("bilinear", "nearest", "nearest-exact")

_Images = TypeVar("_Images", npt.NDArray[np.uint8], torch.Tensor)
Numbers = npt.NDArray[np.int32]
_MAX_SIDE = 65_536


def resize(
    images: _Images,
    height: int,
    width: int,
    *,
    interpolation: str = "bilinear",
    antialias: bool = True,
    num_threads: int = 1,
) -> _Images:
    """New images uint8 [B,height,width,3], the same for every `num_threads`.

    images: uint8 [B,H,W,3], array or CPU tensor; the result is of the same kind. interpolation:

    - "bilinear", with the bytes of Pillow's `resize((width, height), BILINEAR)`: a triangle of at least two
      source pixels, as wide as the reduction demands (without `antialias` always two); columns first, then
      rows. Pillow 13 does rows first for some shapes that are not square, and then a few pixels differ by a
      level.
    - "nearest", the pixels of torch's `interpolate(size=, mode="nearest")`: the one at floor(i * old / new).
    - "nearest-exact", with Pillow's bytes: the one at floor((i + 1/2) * old / new).

    Raises ValueError for a wrong dtype, shape or name, or a side outside 1..65536.
    """
    from fastpipe.kernels.cpu.resize import resize_range

    source = as_images("images", images)
    num, old_height, old_width, _ = source.shape
    check_resize((old_height, old_width), (height, width), interpolation)
    if interpolation != "bilinear":
        rows = nearest_sources(old_height, height, interpolation)
        columns = nearest_sources(old_width, width, interpolation)
        out = np.ascontiguousarray(source[:, rows[:, None], columns])
        if isinstance(images, torch.Tensor):
            return torch.from_numpy(out)
        return out
    out = np.empty((num, height, width, 3), np.uint8)
    flat, flat_out = source.reshape(num, -1), out.reshape(num, -1)
    first_rows, row_weights = triangle(old_height, height, antialias)
    first_columns, column_weights = triangle(old_width, width, antialias)
    sizes = (old_height, old_width)
    weights = (first_rows, row_weights, first_columns, column_weights)

    def resize_part(start: int, stop: int) -> None:
        scratch = np.empty(3 * old_height * width, np.uint8), np.empty(3 * width, np.int32)
        resize_range(flat, flat_out, *sizes, *weights, start, stop, *scratch)

    run_ranges(resize_part, num, num_threads)
    if isinstance(images, torch.Tensor):
        return torch.from_numpy(out)
    return out


def check_resize(old: tuple[int, int], new: tuple[int, int], interpolation: str) -> None:
    """Raise ValueError for sizes (height, width) outside 1..65536 and an unknown interpolation."""
    _check_side("height", new[0])
    _check_side("width", new[1])
    if max(old) > _MAX_SIDE:
        raise ValueError(f"images must have sides of at most {_MAX_SIDE} pixels. Found: {list(old)}")
    if interpolation not in RESIZE_MODES:
        raise ValueError(f"interpolation must be one of {', '.join(RESIZE_MODES)}. Found: {interpolation!r}")


@lru_cache(maxsize=64)
def nearest_sources(old: int, new: int, interpolation: str = "nearest") -> npt.NDArray[np.int64]:
    """The source pixel of each of `new` pixels, int64 [new], read-only.

    "nearest": torch's rule, in float32. "nearest-exact": Pillow's walk in float64 (Geometry.c,
    ImagingScaleAffine).
    """
    if interpolation == "nearest":
        walked = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    else:
        steps = np.full(new, old / new)
        steps[0] *= 0.5
        walked = np.add.accumulate(steps)
    sources = np.minimum(walked.astype(np.int64), old - 1)
    sources.flags.writeable = False
    return sources


def _check_side(name: str, side: object) -> None:
    if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= _MAX_SIDE:
        raise ValueError(f"{name} must be a whole number in 1..{_MAX_SIDE}. Found: {side!r}")


@lru_cache(maxsize=64)
def triangle(old: int, new: int, antialias: bool = True) -> tuple[Numbers, Numbers]:
    """Per output pixel the first source pixel, int32 [new], and the weights in 2^-22, int32 [new, taps].

    Formulas of Pillow 13.0, src/libImaging/Resample.c. A window never leaves the image: if it has fewer
    pixels than taps, it begins earlier and the first weights are 0. Without antialias: at most two taps.
    """
    scale = old / new
    wide = max(scale, 1.0) if antialias else 1.0
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
        # Weights of a triangle are never negative, so rounding half up equals Pillow's rounding.
        table[place, begin : begin + len(weights)] = [math.floor(0.5 + w * (1 << PRECISION)) for w in weights]
    return first, table


def _sum(weights: list[float]) -> float:
    """Left to right, as C adds: `sum` compensates from Python 3.12 on."""
    total = 0.0
    for weight in weights:
        total += weight
    return total
