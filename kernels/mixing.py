"""MixUp and CutMix as one function: mirroring, picked rows and columns, table, erasing and mixing at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.kernels.chain import apply_chain, chunks, pending_flips
from fastpipe.kernels.checks import Images, as_array, as_flags, as_images, describe, require_finite
from fastpipe.kernels.operations import Operations, checked_operations
from fastpipe.kernels.output_checks import BITS, Numbers, as_bits, as_picks, checked_boxes
from fastpipe.kernels.reference import mix_weights
from fastpipe.kernels.threads import run_ranges

__all__ = ["mix"]


def mix(
    images: Images,
    out: torch.Tensor,
    table: Numbers,
    partner: Numbers,
    weight: float,
    *,
    region: Sequence[int] | None = None,
    flip: Numbers | None = None,
    rows: Numbers | None = None,
    columns: Numbers | None = None,
    boxes: Numbers | None = None,
    values: Sequence[float] = (0.0, 0.0, 0.0),
    apply: Numbers | None = None,
    operations: Operations | None = None,
    num_threads: int = 1,
) -> torch.Tensor:
    """Write (1 - weight) * own + weight * partner's into `region` of `out`, each finished as by `finish`.

    images, out (not uint8), flip, rows, columns, operations: as for `finish`; table: float32 [3, 256], in
    float32 until the sum is rounded once to out's dtype. partner: integers [B]. weight in [0, 1], as float32.
    region: top, left, height, width in pixels of out, which is left alone outside it; None: everything.
    boxes, values (one per channel), apply: what `erase` would have done to every image before. Returns `out`.
    Raises ValueError for a wrong dtype, shape, layout or number.
    """
    from fastpipe.kernels.cpu.mix import mix_images, sum_images

    source = as_images("images", images)
    num_images, height, width, _ = source.shape
    bits, channels_last = as_bits("out", out, tuple(BITS))
    picked_rows, picked_columns = as_picks("rows", rows, height), as_picks("columns", columns, width)
    shape = (picked_rows.size, picked_columns.size)
    if tuple(out.shape) != (num_images, 3, *shape):
        raise ValueError(f"out must be {[num_images, 3, *shape]}, like images. Found: {describe(out)}")
    flat, flags = source.reshape(num_images, -1), as_flags("flip", flip, num_images)
    if np.may_share_memory(flat, bits):
        raise ValueError("out must not share memory with images: partners would be overwritten.")
    others = _checked_partner(partner, num_images)
    own, other = _shares(table, values, weight)
    inside = _checked_region(region, *shape)
    erased = _masked_boxes(boxes, apply, num_images, *shape)
    summed = out.dtype == torch.float32
    joint = None
    if not summed or erased.any():
        joint = (own[:, :, None] + other[:, None, :]).to(out.dtype).view(3, -1).view(BITS[out.dtype]).numpy()
    numbers, mine, theirs = bits.view(np.float32) if summed else None, own.numpy(), other.numpy()
    chain = None if operations is None else checked_operations(operations, num_images)
    order = _along_partners(others)

    def mix_part(start: int, stop: int) -> None:
        part = order[start:stop]
        for first in [part] if chain is None else chunks(part, flat.shape[1]):
            # Partners follow one another, so all but the last are in the same chunk.
            ids, places = np.unique(np.concatenate((first, others[first])), return_inverse=True)
            state = (
                pending_flips(flat, ids, flags)
                if chain is None
                else apply_chain(flat, ids, flags, chain, height, width)
            )
            pairs = places[: len(first)], places[len(first) :]
            offsets = np.empty(picked_columns.size, np.int32), np.empty(picked_columns.size, np.int32)
            if numbers is not None:
                own_share, other_share = np.empty(768, np.float32), np.empty(768, np.float32)
                fetched = np.empty(1, np.uint8)
                sum_images(
                    *state,
                    *pairs,
                    numbers,
                    mine,
                    theirs,
                    picked_rows,
                    picked_columns,
                    width,
                    inside,
                    channels_last,
                    *offsets,
                    own_share,
                    other_share,
                    fetched,
                )
            if joint is not None:
                tables = np.empty(768, np.uint8), np.empty(768, np.uint8)
                boxed = np.empty(4, np.int64), np.zeros(4, np.int64)
                mix_images(
                    *state,
                    *pairs,
                    bits,
                    joint,
                    picked_rows,
                    picked_columns,
                    width,
                    inside,
                    erased,
                    channels_last,
                    summed,
                    *offsets,
                    *tables,
                    *boxed,
                )

    run_ranges(mix_part, num_images, num_threads)
    return out


def _along_partners(partner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Every image once, each followed by its partner as far as possible."""
    order, seen, following = [], [False] * len(partner), partner.tolist()
    for place in range(len(following)):
        while not seen[place]:
            seen[place] = True
            order.append(place)
            place = following[place]
    return np.array(order, dtype=np.int64)


def _shares(table: Numbers, values: Sequence[float], weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What each level adds as one's own and as the partner's, float32 [3, 257]; level 256 has `values`."""
    levels = as_array("table", table)
    if levels.dtype != np.float32 or levels.shape != (3, 256):
        raise ValueError(f"table must be float32 [3, 256]. Found: {describe(table)}")
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight must be in [0, 1]. Found: {weight!r}")
    colors = np.asarray(values, dtype=np.float32)
    if colors.shape != (3,):
        raise ValueError(f"values must be 3 numbers. Found: {values!r}")
    every = np.concatenate((levels, colors[:, None]), axis=1)
    require_finite("table and values", every)
    keep, share = mix_weights(weight)
    return torch.from_numpy(every).mul(keep), torch.from_numpy(every).mul(share)


def _checked_partner(partner: Numbers, num_images: int) -> npt.NDArray[np.int64]:
    array = as_array("partner", partner)
    if array.dtype.kind not in "iu" or array.shape != (num_images,):
        raise ValueError(f"partner must be integers [{num_images}]. Found: {describe(partner)}")
    if array.min() < 0 or array.max() >= num_images:
        raise ValueError(f"partner must be in 0..{num_images - 1}. Found: {array.min()}..{array.max()}")
    return np.array(array, dtype=np.int64, order="C")


def _checked_region(region: Sequence[int] | None, height: int, width: int) -> npt.NDArray[np.int64]:
    if region is None:
        return np.array((0, 0, height, width), dtype=np.int64)
    array = np.asarray(region)
    right_kind = array.shape == (4,) and array.dtype.kind in "iu" and array.min() >= 0
    if not right_kind or array[0] + array[2] > height or array[1] + array[3] > width:
        raise ValueError(
            f"region (top, left, height, width) must lie inside {height} x {width} pixels. Found: {region!r}"
        )
    return np.array(array, dtype=np.int64)


def _masked_boxes(
    boxes: Numbers | None, apply: Numbers | None, num_images: int, height: int, width: int
) -> npt.NDArray[np.int64]:
    """Boxes [B, 4], empty if they do not apply."""
    if boxes is None:
        return np.zeros((num_images, 4), np.int64)
    flags = as_flags("apply", np.ones(num_images, np.uint8) if apply is None else apply, num_images)
    return np.where(flags[:, None] != 0, checked_boxes(boxes, flags, height, width), 0).astype(np.int64)
