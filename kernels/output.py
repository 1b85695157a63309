"""The last pass over a batch, as a function: flip, table, cast and layout at once; then erasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.checks import Images, as_array, as_flags, as_images, describe, require_finite
from fastpipe.kernels.threads import run_ranges

__all__ = ["erase", "finish", "normalize_table"]

_BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}

Table = npt.NDArray[np.float32] | torch.Tensor
Flags = npt.NDArray[Any] | torch.Tensor


def normalize_table(mean: Sequence[float], std: Sequence[float], *, scale: bool = True) -> torch.Tensor:
    """The float32 [3, 256] value of each level, with the bytes of torchvision's ToTensor and Normalize.

    scale: divide the level by 255 first. (level - mean) / std in torch's float32, in that order.
    """
    levels = torch.arange(256, dtype=torch.float32)
    levels = levels.div(255) if scale else levels
    means, stds = (torch.as_tensor(list(numbers), dtype=torch.float32) for numbers in (mean, std))
    if means.shape != (3,) or stds.shape != (3,) or not bool((stds > 0).all()):
        raise ValueError(f"mean and std must have 3 numbers, std above 0. Found: mean={mean!r}, std={std!r}")
    return levels.repeat(3, 1).sub_(means.view(3, 1)).div_(stds.view(3, 1))


def finish(
    images: Images,
    out: torch.Tensor,
    table: Table | None,
    *,
    flip: Flags | None = None,
    num_threads: int = 1,
) -> torch.Tensor:
    """Fill and return `out` with table[channel, level] of each pixel, mirrored where `flip`, in one pass.

    images: uint8 [B,H,W,3]. out: [B,3,H,W] on the CPU, float32, float16, bfloat16 or uint8, contiguous or
    channels_last. table: float32 [3, 256], rounded once (to nearest even) to out's dtype; None: the level
    itself, the only choice for uint8. flip: bool or uint8 [B]. The same bytes for every `num_threads`.
    Raises ValueError for a wrong dtype, shape, layout or number.
    """
    from fastpipe.kernels.cpu_output import finish_range, relayout_range

    source = as_images("images", images)
    num_images, height, width, _ = source.shape
    bits, channels_last = _as_bits("out", out, (*_BITS, torch.uint8))
    if tuple(out.shape) != (num_images, 3, height, width):
        raise ValueError(f"out must be {[num_images, 3, height, width]}, like images. Found: {describe(out)}")
    flat, flags = source.reshape(num_images, -1), as_flags("flip", flip, num_images)
    if np.may_share_memory(flat, bits):
        raise ValueError(
            "out must not share memory with images: each pixel would be overwritten before it is read."
        )
    if out.dtype == torch.uint8:
        if table is not None:
            raise ValueError(f"table must be None for a uint8 out. Found: {describe(table)}")
        run_ranges(
            lambda start, stop: relayout_range(flat, bits, flags, height, width, channels_last, start, stop),
            num_images,
            num_threads,
        )
        return out
    levels = _table_bits(table, out.dtype)
    run_ranges(
        lambda start, stop: finish_range(
            flat, bits, levels, flags, height, width, channels_last, start, stop
        ),
        num_images,
        num_threads,
    )
    return out


def erase(
    out: torch.Tensor,
    boxes: Flags,
    values: Table,
    apply: Flags,
    *,
    num_threads: int = 1,
) -> torch.Tensor:
    """Fill one rectangle per image of `out`, in place, where `apply`; return `out`.

    out: float32, float16 or bfloat16 [B,3,H,W], contiguous or channels_last. boxes: integers [B, 4] as top,
    left, height, width in pixels, inside the image. values: float [3] or [B, 3], rounded to float32, then
    to out's dtype. apply: bool or uint8 [B]; where it is 0 the box is not read.
    Raises ValueError as `finish` does.
    """
    from fastpipe.kernels.cpu_output import erase_range

    bits, channels_last = _as_bits("out", out, tuple(_BITS))
    num_images, _, height, width = out.shape
    flags = as_flags("apply", apply, num_images)
    rectangles = _checked_boxes(boxes, flags, height, width)
    numbers = as_array("values", values)
    if numbers.dtype.kind != "f" or numbers.shape not in ((3,), (num_images, 3)):
        raise ValueError(f"values must be float [3] or [{num_images}, 3]. Found: {describe(values)}")
    require_finite("values", numbers)
    colors = _round(np.array(np.broadcast_to(numbers, (num_images, 3)), np.float32, order="C"), out.dtype)
    run_ranges(
        lambda start, stop: erase_range(
            bits, rectangles, colors, flags, height, width, channels_last, start, stop
        ),
        num_images,
        num_threads,
    )
    return out


def _as_bits(name: str, out: object, dtypes: tuple[torch.dtype, ...]) -> tuple[npt.NDArray[Any], bool]:
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
    integers = ordered.view(_BITS.get(out.dtype, torch.uint8))
    return as_array(name, integers).reshape(out.shape[0], -1), channels_last


def _round(values: npt.NDArray[np.float32], dtype: torch.dtype) -> npt.NDArray[Any]:
    """float32 values rounded to nearest even in `dtype`, as that dtype's bits."""
    return np.asarray(torch.from_numpy(values).to(dtype).view(_BITS[dtype]).numpy())


def _table_bits(table: Table | None, dtype: torch.dtype) -> npt.NDArray[Any]:
    if table is None:
        return _round(np.tile(np.arange(256, dtype=np.float32), (3, 1)), dtype)
    levels = as_array("table", table)
    if levels.dtype != np.float32 or levels.shape != (3, 256):
        raise ValueError(f"table must be float32 [3, 256]. Found: {describe(table)}")
    require_finite("table", levels)
    return _round(np.array(levels, order="C"), dtype)


def _checked_boxes(
    boxes: Flags, flags: npt.NDArray[np.uint8], height: int, width: int
) -> npt.NDArray[np.int64]:
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
