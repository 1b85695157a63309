"""Top-1 and top-5: counts per class, which may be added up, and the resulting shares.

Letters in shapes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def count_right(logits: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Counts [K, 3] int64 per true class: images, top class right, right class among the five largest.

    logits [B, K], labels int64 [B]. With fewer than five classes the third is the first.
    """
    first = logits.argmax(dim=1) == labels
    # Of equal logits topk may leave out the one that argmax takes.
    among = (logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]).any(dim=1) | first
    right = torch.stack([torch.ones_like(first), first, among], dim=1)
    counts = torch.zeros(num_classes, 3, dtype=torch.int64, device=logits.device)
    return counts.index_add_(0, labels, right.to(torch.int64))


def top1(counts: Tensor) -> float:
    """The share of images whose top class was right, 0..1, from `count_right`'s counts [K, 3]."""
    return float(counts[:, 1].sum() / counts[:, 0].sum())


def top5(counts: Tensor) -> float | None:
    """The share whose class was among the five largest; None below six classes: it means nothing there."""
    return float(counts[:, 2].sum() / counts[:, 0].sum()) if len(counts) > 5 else None


def per_class(counts: Tensor, classes: Sequence[str]) -> dict[str, float | None]:
    """Top-1 of each class by name; None for a class without images."""
    return {
        name: round(right / images, 6) if images else None
        for name, (images, right) in zip(classes, counts[:, :2].tolist(), strict=True)
    }
