"""Label smoothing: y (1 - s) + s / K. With BCE the negatives get s / K each.

Source: composer/algorithms/label_smoothing of Composer 0.7.1 (Szegedy et al., arXiv 1512.00567).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["dense_targets", "smooth"]


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Smoothed targets, same shape [B, K]; each row keeps its sum of 1."""
    if smoothing == 0.0:
        return targets
    return targets * (1.0 - smoothing) + smoothing / targets.shape[-1]


def dense_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Float32 targets [B, K], from class indices int64 [B] or from soft labels [B, K]."""
    dense = F.one_hot(labels, num_classes).float() if labels.ndim == 1 else labels.float()
    return smooth(dense, smoothing)
