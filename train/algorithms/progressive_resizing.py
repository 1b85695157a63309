"""Progressive resizing: small images first, the full size for the last part of training.

    s = initial                            while t < delay
        initial + (1 - initial) * f,       f = min((t - delay) / (1 - finetune - delay), 1)
    size = round(full * s / increment) * increment

with t the share of training done. The crop is resized once, straight to `size` (contract 3), and the size
changes per step as in the reference text's Table 1. Composer 0.7.1, whose formula this is
(composer/algorithms/progressive_resizing), stepped per epoch when the duration was given in epochs.
"""

from __future__ import annotations

from dataclasses import dataclass


def progressive_size(
    step: int,
    total_steps: int,
    *,
    full_size: int,
    initial_scale: float,
    delay_fraction: float,
    finetune_fraction: float,
    size_increment: int,
) -> int:
    """The image side in pixels for `step` (from 0): a multiple of `size_increment`, at most `full_size`."""
    elapsed = step / total_steps
    if elapsed < delay_fraction:
        grown = 0.0
    else:
        ramp = 1.0 - finetune_fraction - delay_fraction
        grown = min((elapsed - delay_fraction) / ramp, 1.0) if ramp > 0.0 else 1.0
    scale = initial_scale + (1.0 - initial_scale) * grown
    return min(round(full_size * scale / size_increment) * size_increment, full_size)


@dataclass(frozen=True, kw_only=True)
class ProgressiveSize:
    """The `resolution=` of a DataLoader: a pure function of (epoch, batch index)."""

    steps_per_epoch: int
    total_steps: int
    full_size: int
    initial_scale: float = 0.5
    delay_fraction: float = 0.4
    finetune_fraction: float = 0.2
    size_increment: int = 4

    def __call__(self, epoch: int, batch: int) -> int:
        """The side in pixels of that batch's images."""
        return progressive_size(
            epoch * self.steps_per_epoch + batch,
            self.total_steps,
            full_size=self.full_size,
            initial_scale=self.initial_scale,
            delay_fraction=self.delay_fraction,
            finetune_fraction=self.finetune_fraction,
            size_increment=self.size_increment,
        )
