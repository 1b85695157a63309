"""How far another device's pixels may differ from the CPU kernels', for the self-check and the tests.

Warps with bilinear interpolation may differ by at most 1 level, on at most 5e-4 of the bytes of any 64 images
and at most 1 % of any one image; all other bytes are equal.
"""

from __future__ import annotations

import torch

__all__ = ["disagreement"]

MOST_OF_ALL, MOST_OF_ONE = 5e-4, 0.01
_IMAGES = 64


def disagreement(
    ours: torch.Tensor, expected: torch.Tensor, *, tolerant: bool, table: torch.Tensor | None
) -> str:
    """What is wrong with `ours`, [B,3,H,W] or [B,H,W,3] like `expected`; empty if nothing is.

    tolerant: bilinear warps were among the operations. table: float32 [3,256], the values of the levels, or
    None if both hold levels. The share of 64 images also holds for fewer images.
    """
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        return f"{ours.dtype} {list(ours.shape)} instead of {expected.dtype} {list(expected.shape)}"
    if not expected.numel():
        return ""
    difference = (ours.double() - expected.double()).abs().flatten(1)
    # A NaN differs from everything.
    counts = (~(difference == 0)).sum(dim=1).sort(descending=True).values
    per_image, worst, differ = difference.shape[1], int(counts[0]), int(counts.sum())
    counts = counts[:_IMAGES]
    within = int(counts.sum()) <= MOST_OF_ALL * per_image * len(counts) and worst <= MOST_OF_ONE * per_image
    if differ == 0 or (tolerant and within and _are_one_level_apart(ours, expected, table)):
        return ""
    return (
        f"{differ} of {difference.numel()} bytes differ, by up to {float(difference.max()):g}; "
        f"in the worst image {worst} of {per_image}"
    )


def _are_one_level_apart(ours: torch.Tensor, expected: torch.Tensor, table: torch.Tensor | None) -> bool:
    """Whether no value differs by more than that, each rounded to its dtype."""
    a, b = ours.double(), expected.double()
    if table is None:
        return bool(((a - b).abs() <= 1.0).all())
    rounding = torch.finfo(ours.dtype).eps * torch.maximum(a.abs(), b.abs())
    return bool(((a - b).abs() <= table.double().diff(dim=1).abs().max() + rounding).all())
