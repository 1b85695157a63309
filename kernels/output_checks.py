"""Checks of the functions that write float batches, and their memory as bits for kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.checks import as_array, describe, require_finite

BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
"""The integer type of the same width, for each float type that can be written."""

Numbers = npt.NDArray[Any] | torch.Tensor


def as_picks(name: str, value: Numbers | None, length: int) -> npt.NDArray[np.int64]:
    """Indices into `length` rows or columns, int64, at least one; None is all of them."""
    if value is None:
        return np.arange(length, dtype=np.int64)
    array = as_array(name, value)
    if array.dtype.kind not in "iu" or array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be integers [n], at least one. Found: {describe(value)}")
    if array.min() < 0 or array.max() >= length:
        raise ValueError(f"{name} must be in 0..{length - 1}. Found: {array.min()}..{array.max()}")
    return np.array(array, dtype=np.int64, order="C")


def as_bits(name: str, out: object, dtypes: tuple[torch.dtype, ...]) -> tuple[npt.NDArray[Any], bool]:
    """The memory of `out` as integers [B, 3*H*W], and whether channels lie together (channels_last)."""
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor. Found: {describe(out)}")
    allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    if out.dtype not in dtypes or out.ndim != 4 or out.shape[1] != 3 or out.numel() == 0:
        raise ValueError(f"{name} must be [B, 3, H, W], not empty, of {allowed}. Found: {describe(out)}")
    channels_last = not out.is_contiguous()
    if channels_last and not out.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"{name} must be contiguous or channels_last. Found: strides {out.stride()}")
    ordered = out.detach().permute(0, 2, 3, 1) if channels_last else out.detach()
    integers = ordered.view(BITS.get(out.dtype, torch.uint8))
    return as_array(name, integers).reshape(out.shape[0], -1), channels_last


def round_to_bits(values: npt.NDArray[np.float32], dtype: torch.dtype) -> npt.NDArray[Any]:
    """float32 values rounded to nearest even in `dtype`, as that dtype's bits."""
    return np.asarray(torch.from_numpy(values).to(dtype).view(BITS.get(dtype, dtype)).numpy())


def table_bits(table: Numbers | None, dtype: torch.dtype) -> npt.NDArray[Any]:
    """The float32 [3, 256] table (None: the levels themselves) rounded to `dtype`, as bits."""
    if table is None:
        return round_to_bits(np.tile(np.arange(256, dtype=np.float32), (3, 1)), dtype)
    levels = as_array("table", table)
    if levels.dtype != np.float32 or levels.shape != (3, 256):
        raise ValueError(f"table must be float32 [3, 256]. Found: {describe(table)}")
    require_finite("table", levels)
    return round_to_bits(np.array(levels, order="C"), dtype)


def checked_boxes(
    boxes: Numbers, flags: npt.NDArray[np.uint8], height: int, width: int
) -> npt.NDArray[np.int64]:
    """Boxes as int64 [B, 4]; a box whose flag is set must lie inside the image."""
    array = as_array("boxes", boxes)
    if array.dtype.kind not in "iu" or array.shape != (flags.size, 4):
        raise ValueError(f"boxes must be integers [{flags.size}, 4]. Found: {describe(boxes)}")
    rectangles = np.array(array, dtype=np.int64, order="C")
    used = rectangles[flags != 0]
    ends = used[:, :2] + used[:, 2:]
    wrong = (used < 0).any(axis=1) | (ends > (height, width)).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"boxes (top, left, height, width) must lie inside {height} x {width} pixels. "
            f"Found: {used[wrong][0].tolist()}"
        )
    return rectangles
