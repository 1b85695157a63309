"""The learning rate of every step: linear warmup, then a cosine to `min_lr`.

Formula: CosineAnnealingWithWarmupScheduler of Composer 0.7.1 (composer/optim/scheduler.py).
The first step of a warmup has a learning rate of exactly 0.
"""

from __future__ import annotations

import math

import torch

__all__ = ["cosine_with_warmup", "set_lr"]


def cosine_with_warmup(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, minimum: float = 0.0
) -> float:
    """The learning rate of `step` (from 0): peak * t / warmup, then a half cosine from peak to minimum."""
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = min((step - warmup_steps) / max(1, total_steps - warmup_steps), 1.0)
    return minimum + (peak - minimum) * (1.0 + math.cos(math.pi * progress)) / 2.0


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr
