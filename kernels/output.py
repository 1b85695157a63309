"""The last pass over a batch, as a function: flip, table, cast and layout at once; then erasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.chain import apply_chain, chunks, pending_flips
from fastpipe.kernels.checks import Images, as_array, as_flags, as_images, describe, require_finite
from fastpipe.kernels.operations import Operations, checked_operations
from fastpipe.kernels.output_checks import (
    BITS,
    as_bits,
    as_picks,
    checked_boxes,
    round_to_bits,
    table_bits,
)
from fastpipe.kernels.threads import run_ranges

__all__ = ["erase", "finish", "normalize_table"]

Table = npt.NDArray[np.float32] | torch.Tensor
Flags = npt.NDArray[Any] | torch.Tensor


def normalize_table(mean: Sequence[float], std: Sequence[float], *, scale: bool = True) -> torch.Tensor:
    """The float32 [3, 256] value of each level, with the bytes of torchvision's ToTensor and Normalize.

    scale: divide the level by 255 first. (level - mean) / std in torch's float32, in that order.
    """
    levels = torch.arange(256, dtype=torch.float32, device="cpu")
    levels = levels.div(255) if scale else levels
    means, stds = (
        torch.as_tensor(list(numbers), dtype=torch.float32, device="cpu") for numbers in (mean, std)
    )
    if means.shape != (3,) or stds.shape != (3,) or not bool((stds > 0).all()):
        raise ValueError(f"mean and std must have 3 numbers, std above 0. Found: mean={mean!r}, std={std!r}")
    return levels.repeat(3, 1).sub_(means.view(3, 1)).div_(stds.view(3, 1))


def finish(
    images: Images,
    out: torch.Tensor,
    table: Table | None,
    *,
    flip: Flags | None = None,
    rows: Flags | None = None,
    columns: Flags | None = None,
    operations: Operations | None = None,
    num_threads: int = 1,
) -> torch.Tensor:
    """Fill and return `out` with table[channel, level] of each pixel, mirrored where `flip`, in one pass.

    images: uint8 [B,H,W,3]. out: [B,3,H,W] on the CPU, float32, float16, bfloat16 or uint8, contiguous or
    channels_last. table: float32 [3, 256], rounded once (to nearest even) to out's dtype; None: the level
    itself, the only choice for uint8. flip: bool or uint8 [B]. rows, columns: integers [h] and [w], pixels to
    take after mirroring (None: all, in order); then out is [B,3,h,w]. operations: those of `augment_batch`,
    after the mirroring and before everything else. The same bytes for every `num_threads`.
    Raises ValueError for a wrong dtype, shape, layout or number.
    """
    from fastpipe.kernels.cpu.output import finish_images

    source = as_images("images", images)
    num_images, height, width, _ = source.shape
    bits, channels_last = as_bits("out", out, (*BITS, torch.uint8))
    picked_rows, picked_columns = as_picks("rows", rows, height), as_picks("columns", columns, width)
    expected = [num_images, 3, picked_rows.size, picked_columns.size]
    if list(out.shape) != expected:
        raise ValueError(f"out must be {expected}, like images. Found: {describe(out)}")
    flat, flags = source.reshape(num_images, -1), as_flags("flip", flip, num_images)
    if np.may_share_memory(flat, bits):
        raise ValueError(
            "out must not share memory with images: each pixel would be overwritten before it is read."
        )
    if out.dtype == torch.uint8 and table is not None:
        raise ValueError(f"table must be None for a uint8 out. Found: {describe(table)}")
    levels = table_bits(table, out.dtype)
    verbatim = out.dtype == torch.uint8 and channels_last and rows is None and columns is None
    chain = None if operations is None else checked_operations(operations, num_images)

    def finish_part(start: int, stop: int) -> None:
        every = np.arange(start, stop)
        for ids in [every] if chain is None else chunks(every, flat.shape[1]):
            state = (
                pending_flips(flat, ids, flags)
                if chain is None
                else apply_chain(flat, ids, flags, chain, height, width)
            )
            picks = picked_rows, picked_columns, width
            scratch = np.empty(picked_columns.size, np.int32), np.empty_like(levels), np.empty(1, np.uint8)
            finish_images(*state, bits, levels, *picks, channels_last, verbatim, *scratch)

    run_ranges(finish_part, num_images, num_threads)
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
    from fastpipe.kernels.cpu.output import erase_range

    bits, channels_last = as_bits("out", out, tuple(BITS))
    num_images, _, height, width = out.shape
    flags = as_flags("apply", apply, num_images)
    rectangles = checked_boxes(boxes, flags, height, width)
    numbers = as_array("values", values)
    if numbers.dtype.kind != "f" or numbers.shape not in ((3,), (num_images, 3)):
        raise ValueError(f"values must be float [3] or [{num_images}, 3]. Found: {describe(values)}")
    require_finite("values", numbers)
    colors = round_to_bits(
        np.array(np.broadcast_to(numbers, (num_images, 3)), np.float32, order="C"), out.dtype
    )
    run_ranges(
        lambda start, stop: erase_range(
            bits, rectangles, colors, flags, height, width, channels_last, start, stop
        ),
        num_images,
        num_threads,
    )
    return out
