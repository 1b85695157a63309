"""The learning rate of every step: linear warmup, then a decay to `min_lr`.

    warmup      peak * (start + (1 - start) * t / warmup)
    cosine      min + (peak - min) * (1 + cos(pi * x)) / 2         x = (t - warmup) / (total - warmup)
    linear      min + (peak - min) * (1 - x)
    polynomial  min + (peak - min) * (1 - x) ** 2

Sources: CosineAnnealingWithWarmupScheduler of Composer 0.7.1 (start 0: the first step has a learning rate of
exactly 0); get_cyclic_lr of ffcv-imagenet's train_imagenet.py (linear, start 1e-4); torch's LinearLR with
start_factor and CosineAnnealingLR, stepped per epoch; MLPerf's pow2.
With resolution "epoch", every step of an epoch has the rate of the first one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

Decay = Literal["cosine", "linear", "polynomial"]


def learning_rate(
    step: int,
    *,
    name: Decay,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    minimum: float = 0.0,
    warmup_start: float = 0.0,
) -> float:
    """The learning rate of `step` (from 0). `warmup_start` is the warmup's first rate as a share of peak."""
    if step < warmup_steps:
        return peak * (warmup_start + (1.0 - warmup_start) * step / warmup_steps)
    progress = min((step - warmup_steps) / max(1, total_steps - warmup_steps), 1.0)
    if name == "cosine":
        left = (1.0 + math.cos(math.pi * progress)) / 2.0
    else:
        left = (1.0 - progress) ** (2 if name == "polynomial" else 1)
    return minimum + (peak - minimum) * left


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A run's learning rates. `warmup_epochs` may be a fraction; `resolution` is "step" or "epoch"."""

    name: Decay
    peak: float
    epochs: int
    steps_per_epoch: int
    warmup_epochs: float
    minimum: float = 0.0
    warmup_start: float = 0.0
    resolution: Literal["step", "epoch"] = "step"

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Steps of the warmup."""
        return round(self.warmup_epochs * self.steps_per_epoch)

    def __call__(self, step: int) -> float:
        """The learning rate of `step`, counted from 0."""
        if self.resolution == "epoch":
            step -= step % self.steps_per_epoch
        return learning_rate(
            step,
            name=self.name,
            peak=self.peak,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
            minimum=self.minimum,
            warmup_start=self.warmup_start,
        )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the learning rate `lr`, times its layer's share if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
