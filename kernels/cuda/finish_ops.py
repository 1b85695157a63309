"""The last pass on CUDA as torch operations: picked rows and columns, bilinear resize, mixing.

    fastpipe::picked(images, numbers, norm, height, width, channels_last) -> [B,3,height,width]
    fastpipe::resized(images, numbers, norm, row_filters, column_filters, channels_last) -> [B,3,h,w]
    fastpipe::mix_(out, images, numbers, shares, region)

numbers: `cuda.finish_plan.finish_numbers`, int32 on the device. norm: [768], the value of each level per
channel. As in `cuda/ops.py`: torch's current stream and allocator; importing needs no numba-cuda and no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fastpipe.kernels.cuda.finish_plan import (
    MIXED,
    finish_names,
    schedule_mixed,
    schedule_picked,
    schedule_resize,
)
from fastpipe.kernels.cuda.layout import LEVELS
from fastpipe.kernels.cuda.ops import BITS, LIBRARY, run_launches
from fastpipe.kernels.cuda.plan import check_elements

__all__ = ["mix_into", "picked", "resized"]

LIBRARY.define(
    "picked(Tensor images, Tensor numbers, Tensor norm, int height, int width, bool channels_last) -> Tensor"
)
LIBRARY.define(
    "resized(Tensor images, Tensor numbers, Tensor norm, Tensor row_filters, Tensor column_filters, "
    "int kept_height, int kept_width, bool channels_last) -> Tensor"
)
LIBRARY.define("mix_(Tensor(a!) out, Tensor images, Tensor numbers, Tensor shares, int[] region) -> ()")


def picked(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    height: int,
    width: int,
    channels_last: bool,
) -> torch.Tensor:
    """Flip, the rows and columns of `numbers` (height and width of them), and values: norm's dtype.

    images: uint8 [B,H,W,3], contiguous. All on one CUDA device.
    """
    result: torch.Tensor = torch.ops.fastpipe.picked(images, numbers, norm, height, width, channels_last)
    return result


def resized(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    row_filters: torch.Tensor,
    column_filters: torch.Tensor,
    kept: Sequence[int],
    channels_last: bool,
) -> torch.Tensor:
    """As `picked`, with the kept (rows, columns) filtered to another size before the values.

    row_filters, column_filters: int32 [h, 1 + taps] and [w, 1 + taps], of `cuda.finish_plan.filters`.
    """
    result: torch.Tensor = torch.ops.fastpipe.resized(
        images, numbers, norm, row_filters, column_filters, *kept, channels_last
    )
    return result


def mix_into(
    out: torch.Tensor,
    images: torch.Tensor,
    numbers: torch.Tensor,
    shares: torch.Tensor,
    region: Sequence[int],
) -> None:
    """Write own + partner's values into a region (top, left, height, width) of `out` [B,3,h,w], in place.

    shares: float32 [2, 3, 257], what each level adds as one's own and as the partner's; the last is erased.
    """
    torch.ops.fastpipe.mix_(out, images, numbers, shares, list(region))


def _empty(
    images: torch.Tensor, norm: torch.Tensor, height: int, width: int, channels_last: bool
) -> torch.Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (images.shape[0], 3, height, width)
    return torch.empty(shape, dtype=norm.dtype, device=images.device, memory_format=layout)


def _picked_fake(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    height: int,
    width: int,
    channels_last: bool,
) -> torch.Tensor:
    return _empty(images, norm, height, width, channels_last)


def _resized_fake(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    row_filters: torch.Tensor,
    column_filters: torch.Tensor,
    kept_height: int,
    kept_width: int,
    channels_last: bool,
) -> torch.Tensor:
    return _empty(images, norm, row_filters.shape[0], column_filters.shape[0], channels_last)


def _mix_fake(
    out: torch.Tensor,
    images: torch.Tensor,
    numbers: torch.Tensor,
    shares: torch.Tensor,
    region: Sequence[int],
) -> None:
    """Nothing: the shape stays."""


def _check(images: torch.Tensor, numbers: torch.Tensor, height: int, width: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.is_contiguous():
        raise ValueError(
            f"images must be contiguous uint8 [B, H, W, 3]. Found: {images.dtype} {list(images.shape)}"
        )
    check_elements(images.shape)
    check_elements((len(images), height, width, 3), "the result")
    size = 6 * len(images) + height + width
    if numbers.dtype != torch.int32 or numbers.shape != (size,):
        raise ValueError(f"numbers must be int32 [{size}]. Found: {numbers.dtype} {list(numbers.shape)}")


def _check_norm(norm: torch.Tensor) -> None:
    if norm.dtype not in BITS or norm.shape != (768,):
        raise ValueError(f"norm must be [768] of a known dtype. Found: {norm.dtype} {list(norm.shape)}")


def _size(images: torch.Tensor) -> tuple[int, int]:
    return int(images.shape[1]), int(images.shape[2])


def _picked_cuda(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    height: int,
    width: int,
    channels_last: bool,
) -> torch.Tensor:
    _check(images, numbers, height, width)
    _check_norm(norm)
    bits = BITS[norm.dtype]
    launch = schedule_picked(
        len(images), _size(images), (height, width), bits=bits, channels_last=channels_last
    )
    with torch.cuda.device(images.device):
        out = _empty(images, norm, height, width, channels_last)
        buffers = {"images": images, "numbers": numbers, "norm": norm, "out": out}
        run_launches([launch], buffers, images.device, tuple(finish_names(bits)))
    return out


def _resized_cuda(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    row_filters: torch.Tensor,
    column_filters: torch.Tensor,
    kept_height: int,
    kept_width: int,
    channels_last: bool,
) -> torch.Tensor:
    _check(images, numbers, kept_height, kept_width)
    _check_norm(norm)
    for name, table in (("row_filters", row_filters), ("column_filters", column_filters)):
        if table.dtype != torch.int32 or table.ndim != 2 or not table.is_contiguous() or table.shape[1] < 2:
            raise ValueError(
                f"{name} must be contiguous int32 [n, 1 + taps]. Found: {table.dtype} {list(table.shape)}"
            )
    bits, (height, width) = BITS[norm.dtype], (len(row_filters), len(column_filters))
    launches = schedule_resize(
        len(images),
        _size(images),
        (kept_height, kept_width),
        (height, width),
        (row_filters.shape[1] - 1, column_filters.shape[1] - 1),
        bits=bits,
        channels_last=channels_last,
    )
    with torch.cuda.device(images.device):
        out = _empty(images, norm, height, width, channels_last)
        middle = images.new_empty((len(images), kept_height, width, 3))
        buffers = {"images": images, "numbers": numbers, "norm": norm, "out": out, "middle": middle}
        buffers |= {"row_filters": row_filters, "column_filters": column_filters}
        run_launches(launches, buffers, images.device, tuple(finish_names(bits)))
    return out


def _mix_cuda(
    out: torch.Tensor,
    images: torch.Tensor,
    numbers: torch.Tensor,
    shares: torch.Tensor,
    region: Sequence[int],
) -> None:
    height, width = int(out.shape[2]), int(out.shape[3])
    _check(images, numbers, height, width)
    dtype = str(out.dtype).removeprefix("torch.")
    top, left, box_height, box_width = region
    inside = min(region) >= 0 and top + box_height <= height and left + box_width <= width
    if dtype not in MIXED or len(out) != len(images) or shares.shape != (2, 3, LEVELS) or not inside:
        raise ValueError(
            f"out must be [{len(images)}, 3, h, w] of {', '.join(MIXED)}, shares [2, 3, {LEVELS}], region "
            f"inside out. Found: {dtype} {list(out.shape)}, {list(shares.shape)}, {list(region)}"
        )
    channels_last = not out.is_contiguous()
    launches = schedule_mixed(
        len(images), _size(images), (height, width), region, dtype=dtype, channels_last=channels_last
    )
    with torch.cuda.device(out.device):
        buffers = {"images": images, "numbers": numbers, "shares": shares, "out": out}
        run_launches(launches, buffers, out.device, (f"mixed_{dtype}",))


_IMPLEMENTED: dict[str, tuple[Any, Any]] = {
    "picked": (_picked_cuda, _picked_fake),
    "resized": (_resized_cuda, _resized_fake),
    "mix_": (_mix_cuda, _mix_fake),
}
for _name, (_cuda, _fake) in _IMPLEMENTED.items():
    LIBRARY.impl(_name, _cuda, "CUDA")
    torch.library.register_fake(f"fastpipe::{_name}", _fake, lib=LIBRARY)
