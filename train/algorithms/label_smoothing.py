"""Label smoothing: y (1 - s) + s / K. With BCE the negatives get s / K each.

With MixUp or CutMix of weight w the mixed labels are smoothed. Composer smooths first and mixes in a hard
partner, (1 - w) smooth(y) + w y_partner: `targets_as_composer`.
Source: composer/algorithms/label_smoothing and mixup of Composer 0.7.1 (Szegedy et al., arXiv 1512.00567).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastpipe.errors import ArgumentError


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Smoothed targets, same shape [B, K]; each row keeps its sum of 1."""
    if smoothing == 0.0:
        return targets
    return targets * (1.0 - smoothing) + smoothing / targets.shape[-1]


def dense_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Float32 targets [B, K], from class indices int64 [B] or from soft labels [B, K]."""
    dense = F.one_hot(labels, num_classes).float() if labels.ndim == 1 else labels.float()
    return smooth(dense, smoothing)


def targets_as_composer(batch: Any, num_classes: int, smoothing: float) -> Tensor:
    """Float32 targets [B, K] of a loader's batch, on its labels' device; the partners' labels stay hard.

    Raises ArgumentError for soft labels without a record of their parts.
    """
    own: Tensor | None = getattr(batch, "hard_labels", None)
    partner: Tensor | None = getattr(batch, "partner", None)
    if own is None or partner is None:
        if batch[1].ndim == 2:
            raise ArgumentError(
                "loss.label_smoothing_mixup must be both for labels that were mixed before the loader, which "
                "does not know their partners. Found: 'composer'"
            )
        return dense_targets(batch[1], num_classes, smoothing)
    hard = F.one_hot(own, num_classes).float()
    return torch.lerp(smooth(hard, smoothing), hard[partner], batch.weight)
