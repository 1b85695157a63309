"""An exponential moving average of the weights, used for evaluation.

    shadow = s * shadow + (1 - s) * model,     s = 2 ** -(update_interval / half_life_batches)

every `update_interval` steps, for parameters and buffers (BatchNorm's running statistics are averaged, not
estimated anew; integer buffers are truncated). The first update copies. Source: composer/algorithms/ema of
Composer 0.7.1: half-life 100 batches, every 20.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError


def smoothing_factor(half_life_batches: int, update_interval: int) -> float:
    """The share of the shadow that survives one update: one half after `half_life_batches` steps."""
    return float(2.0 ** -(update_interval / half_life_batches))


def averaging_updates(steps: int, update_interval: int, *, copied: int = 0) -> int:
    """How many updates of `steps` steps average; those in the first `copied` steps, and the next, copy."""
    return max(0, steps // update_interval - copied // update_interval - 1)


@torch.no_grad()
def ema_(shadow: list[Tensor], current: list[Tensor], smoothing: float) -> None:
    """Move `shadow` towards `current` in place."""
    pairs = list(zip(shadow, current, strict=True))
    floats = [(s, c) for s, c in pairs if s.is_floating_point()]
    if floats:
        shadows, currents = (list(column) for column in zip(*floats, strict=True))
        torch._foreach_mul_(shadows, smoothing)
        torch._foreach_add_(shadows, currents, alpha=1.0 - smoothing)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(old * smoothing + new * (1.0 - smoothing))


class EMA:
    """Keeps the shadow of one model, and lends it to the model for evaluation."""

    def __init__(self, *, half_life_batches: int = 100, update_interval: int = 20) -> None:
        if half_life_batches < 1 or update_interval < 1:
            raise ArgumentError(
                "ema.half_life_batches and ema.update_interval must be at least 1. "
                f"Found: {half_life_batches!r} and {update_interval!r}"
            )
        self.update_interval = update_interval
        self.smoothing = smoothing_factor(half_life_batches, update_interval)
        self.shadow: dict[str, Tensor] = {}
        self.fixed: Collection[str] = ()
        """Names of tensors that do not change; averaging equal values would change their last bits."""

    def after_step(self, model: nn.Module, steps_done: int, *, copy: bool = False) -> bool:
        """Update when `steps_done` (from 1) is a multiple of the interval. Returns whether it did.

        copy: drop the past, as torchvision's reference does until the first update after the warmup.
        """
        if steps_done % self.update_interval:
            return False
        current = model.state_dict()
        if copy or not self.shadow:
            self.shadow = {name: value.detach().clone() for name, value in current.items()}
        else:
            moving = [name for name in self.shadow if name not in self.fixed]
            ema_([self.shadow[name] for name in moving], [current[name] for name in moving], self.smoothing)
        return True

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[bool]:
        """The model has the averaged weights inside the block. Yields False while there is no average yet."""
        self._exchange(model)
        try:
            yield bool(self.shadow)
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        if not self.shadow:
            return
        for name, value in model.state_dict().items():
            own = value.clone()
            value.copy_(self.shadow[name])
            self.shadow[name].copy_(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name; empty before the first update."""
        return dict(self.shadow)

    def load_state_dict(self, state: Mapping[str, Tensor], model: nn.Module) -> None:
        """Continue from saved averages, on the devices and in the layout of the model's own tensors."""
        current = model.state_dict()
        self.shadow = {name: current[name].detach().clone().copy_(value) for name, value in state.items()}
