"""The last pass and erasing in plain torch, on any device: slow, obvious, the oracle of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.resizing import check_resize, nearest_sources, triangle
from fastpipe.kernels.rules import PRECISION

__all__ = ["erase_torch", "finish_torch", "mix_shares", "mix_torch", "mix_weights", "resize_torch"]

Numbers = torch.Tensor | npt.NDArray[Any]


def finish_torch(
    images: torch.Tensor,
    out_dtype: torch.dtype,
    table: Numbers | None,
    flip: Numbers | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    rows: Numbers | None = None,
    columns: Numbers | None = None,
) -> torch.Tensor:
    """A new [B,3,H,W] tensor of `out_dtype` with table[channel, level], mirrored where `flip`.

    images: uint8 [B,H,W,3]; table: float32 [3, 256], None for the level itself; flip: bool or uint8 [B];
    rows, columns: integers, the pixels to take after mirroring, None for all.
    Everything is moved to the images' device. Raises ValueError for another shape or dtype of images.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 [B, H, W, 3]. Found: {images.dtype} {list(images.shape)}")
    if flip is not None:
        flip = torch.as_tensor(flip, device=images.device)
        images = torch.where(flip.view(-1, 1, 1, 1) != 0, images.flip(2), images)
    for axis, picks in ((1, rows), (2, columns)):
        if picks is not None:
            images = images.index_select(axis, torch.as_tensor(picks, device=images.device))
    values = images.permute(0, 3, 1, 2)
    if table is not None:
        table = torch.as_tensor(table, device=images.device)
        values = torch.stack([table[c][values[:, c].long()] for c in range(3)], dim=1)
    return values.to(out_dtype, copy=True).contiguous(memory_format=memory_format)


def erase_torch(images: torch.Tensor, boxes: Numbers, values: Numbers, apply: Numbers) -> torch.Tensor:
    """New images with boxes (top, left, height, width: integers [B, 4]) filled with `values` where `apply`.

    images: [B,3,H,W]; values: float32 [3] or [B, 3]; apply: bool or uint8 [B].
    Everything is moved to the images' device.
    """
    boxes, values, apply = (torch.as_tensor(x, device=images.device) for x in (boxes, values, apply))
    rows = torch.arange(images.shape[2], device=images.device).view(1, 1, -1, 1)
    columns = torch.arange(images.shape[3], device=images.device).view(1, 1, 1, -1)
    top, left, height, width = (side.view(-1, 1, 1, 1) for side in boxes.unbind(1))
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    inside = inside & (apply.view(-1, 1, 1, 1) != 0)
    filled = values.to(images.dtype).expand(images.shape[0], 3)[:, :, None, None]
    return torch.where(inside, filled, images)


def mix_torch(
    images: torch.Tensor, partner: Numbers, weight: float, region: Sequence[int] | None = None
) -> torch.Tensor:
    """New images with (1 - weight) * own + weight * partner's in `region`, or all over.

    images: float32 [B,3,H,W]; partner: integers [B]; region: top, left, height, width in pixels. Two products
    and one sum, each rounded in float32.
    """
    keep, share = mix_weights(weight)
    others = images.index_select(0, torch.as_tensor(partner, device=images.device))
    mixed = images.mul(keep).add_(others.mul_(share))
    if region is None:
        return mixed
    top, left, height, width = region
    inside = (..., slice(top, top + height), slice(left, left + width))
    result = images.clone()
    result[inside] = mixed[inside]
    return result


def resize_torch(
    images: torch.Tensor, height: int, width: int, interpolation: str = "bilinear", antialias: bool = True
) -> torch.Tensor:
    """As `kernels.resize`, byte for byte, on any device: new images uint8 [B,height,width,3]."""
    sizes = (int(images.shape[1]), int(images.shape[2]))
    check_resize(sizes, (height, width), interpolation)
    for axis, old, new in ((2, sizes[1], width), (1, sizes[0], height)):
        if interpolation != "bilinear":
            picks = torch.from_numpy(nearest_sources(old, new, interpolation).copy())
            images = images.index_select(axis, picks.to(images.device))
        elif old != new:
            images = _filtered(images, axis, *triangle(old, new, antialias))
    return images.contiguous()


def _filtered(
    images: torch.Tensor, axis: int, first: npt.NDArray[Any], weights: npt.NDArray[Any]
) -> torch.Tensor:
    """One axis through a triangle, in whole numbers, one tap after another."""
    shape = [1] * images.ndim
    shape[axis] = -1
    places = torch.from_numpy(first).to(images.device)
    factors = torch.from_numpy(weights).to(images.device)
    total: torch.Tensor | int = 1 << (PRECISION - 1)
    for tap in range(factors.shape[1]):
        levels = images.index_select(axis, places + tap).to(torch.int32)
        total = levels.mul_(factors[:, tap].view(shape)).add_(total)
    return torch.as_tensor(total).bitwise_right_shift(PRECISION).clamp_(0, 255).to(torch.uint8)


def mix_shares(table: torch.Tensor, values: Sequence[float], weight: float) -> torch.Tensor:
    """What each level adds as one's own and as the partner's, float32 [2, 3, 257]; level 256 has `values`.

    table: float32 [3, 256]. weight: the partner's, in [0, 1].
    """
    erased = torch.tensor(list(values), dtype=torch.float32, device=table.device).view(3, 1)
    every = torch.cat((table, erased), dim=1)
    return torch.stack([every.mul(share) for share in mix_weights(weight)])


def mix_weights(weight: float) -> tuple[float, float]:
    """(1 - weight, weight) as float32 values; in float32 their sum is exactly 1."""
    share = np.float32(weight)
    return float(np.float32(1.0) - share), float(share)
