"""The numbers and launches of the last pass of a batch that changes the size or mixes.

    numbers int32 = [ flip: B | partner: B | erased boxes: B x 4 | rows: h | columns: w ]

Plain data, made in numpy on the host; no GPU is needed to make or test it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.cuda import schedule
from fastpipe.kernels.cuda.plan import check_elements
from fastpipe.kernels.cuda.schedule import Argument, Launch
from fastpipe.kernels.resizing import triangle

__all__ = ["filters", "finish_numbers"]

Ints = npt.NDArray[np.int32]
Size = tuple[int, int]

MIXED = ("float16", "bfloat16", "float32")
"""The dtypes that images can be mixed into. The kernel of each is named after it."""


def finish_names(bits: int) -> list[str]:
    """The kernels that a changed size may use for elements of `bits`."""
    return list(
        dict.fromkeys(
            ["picked_8", "resize_columns", "resize_rows_8", f"picked_{bits}", f"resize_rows_{bits}"]
        )
    )


def finish_numbers(
    num: int,
    height: int,
    width: int,
    *,
    rows: npt.NDArray[Any] | None = None,
    columns: npt.NDArray[Any] | None = None,
    flip: npt.NDArray[Any] | None = None,
    partner: npt.NDArray[Any] | None = None,
    boxes: npt.NDArray[Any] | None = None,
    apply: npt.NDArray[Any] | None = None,
) -> Ints:
    """The numbers of a batch of `num` images of height x width. Arguments as of `finish`, `erase` and `mix`.

    Raises ValueError for rows, columns or partners that do not exist, and for sizes beyond 32-bit indices.
    """
    rows = np.arange(height) if rows is None else np.asarray(rows)
    columns = np.arange(width) if columns is None else np.asarray(columns)
    others = np.arange(num) if partner is None else np.asarray(partner)
    for name, values, length in (
        ("rows", rows, height),
        ("columns", columns, width),
        ("partner", others, num),
    ):
        if values.ndim != 1 or not values.size or values.min() < 0 or values.max() >= length:
            raise ValueError(f"{name} must be at least one number in 0..{length - 1}. Found: {values!r}")
    check_elements((num, height, width, 3))
    check_elements((num, len(rows), len(columns), 3), "the picked pixels")
    erased = np.zeros((num, 4), np.int32)
    if boxes is not None and apply is not None:
        erased[np.asarray(apply) != 0] = np.asarray(boxes)[np.asarray(apply) != 0]
    flags = np.zeros(num) if flip is None else np.asarray(flip) != 0
    parts = (flags, others, erased.ravel(), rows, columns)
    return np.concatenate([np.asarray(part, np.int32) for part in parts])


def _starts(num: int, kept_height: int) -> dict[str, Argument]:
    """Where each part of the numbers begins."""
    sizes = {"flip": num, "partner": num, "boxes": 4 * num, "rows": kept_height, "columns": 0}
    starts = np.cumsum([0, *sizes.values()]).tolist()
    return {name: ("numbers", start) for name, start in zip(sizes, starts, strict=False)}


@lru_cache(maxsize=64)
def filters(old: int, new: int, antialias: bool = True) -> Ints:
    """int32 [new, 1 + taps]: the first source pixel, then the weights (`resizing.triangle`), read-only."""
    first, weights = triangle(old, new, antialias)
    made = np.concatenate([first[:, None], weights], axis=1)
    made.flags.writeable = False
    return made


def _steps(size: Size, channels_last: bool) -> Size:
    """How far pixels, and channels of a pixel, lie apart in the target."""
    return (3, 1) if channels_last else (1, size[0] * size[1])


def _tiles(num: int, size: Size) -> tuple[int, int, int]:
    across, down, _ = schedule._TILE
    return -(-size[1] // across), -(-size[0] // down), num


def schedule_picked(num: int, old: Size, new: Size, *, bits: int, channels_last: bool) -> Launch:
    """Gather rows and columns. old, new: (height, width). Buffers: images, numbers, norm, out."""
    at = _starts(num, new[0])
    arguments = (("images", 0), ("norm", 0), at["flip"], at["rows"], at["columns"], ("out", 0))
    sizes = (*old, *new, *_steps(new, channels_last))
    return Launch(f"picked_{bits}", _tiles(num, new), schedule._TILE, (*arguments, *sizes))


def schedule_resize(
    num: int, old: Size, kept: Size, new: Size, taps: Size, *, bits: int, channels_last: bool
) -> list[Launch]:
    """Kept rows and columns of old images, filtered to a new size. taps: of rows and of columns.

    Buffers: images, numbers, row_filters, column_filters, middle (uint8, kept height x new width), norm, out.
    Raises ValueError if `middle` or the result is beyond 32-bit indices, before memory is taken.
    """
    at, tile = _starts(num, kept[0]), schedule._TILE
    middle = (kept[0], new[1])
    check_elements((num, *middle, 3), "images with their rows filtered")
    check_elements((num, *new, 3), "resized images")
    first: tuple[Argument, ...] = (("images", 0), at["flip"], at["rows"], at["columns"])
    first = (*first, ("column_filters", 0), ("middle", 0), *old, *middle, taps[1])
    second: tuple[Argument, ...] = (("middle", 0), ("norm", 0), ("row_filters", 0), ("out", 0))
    second = (*second, *middle, new[0], taps[0], *_steps(new, channels_last))
    return [
        Launch("resize_columns", _tiles(num, middle), tile, first),
        Launch(f"resize_rows_{bits}", _tiles(num, new), tile, second),
    ]


def schedule_mixed(
    num: int, old: Size, new: Size, region: Sequence[int], *, dtype: str, channels_last: bool
) -> Iterator[Launch]:
    """Mix the region (top, left, height, width) of the output; nothing if it is empty.

    Buffers: images, shares (float32 [2, 3, 257]), numbers, out.
    """
    pixels = region[2] * region[3]
    if not pixels:
        return
    at = _starts(num, new[0])
    buffers = [at[name] for name in ("flip", "partner", "boxes", "rows", "columns")]
    arguments = (("images", 0), ("shares", 0), *buffers, ("out", 0))
    sizes = (*old, *new, *region, *_steps(new, channels_last))
    threads = schedule._THREADS
    grid = (-(-pixels // (threads * schedule._TURNS)), num, 1)
    yield Launch(f"mixed_{dtype}", grid, (threads, 1, 1), (*arguments, *sizes))
