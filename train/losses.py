"""Losses on their way to the log: read rarely on CUDA, where reading waits, and checked for NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastpipe.train.errors import DivergedError

__all__ = ["StepLog", "UnreadLosses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLog:
    """One step as it is logged: `step` from 0, `resolution` in pixels."""

    step: int
    loss: float
    lr: float
    resolution: int


class UnreadLosses:
    """Collects the losses of steps, and reads `interval` of them at once."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._waiting: list[tuple[Tensor, int, float, int]] = []

    def add(self, loss: Tensor, *, step: int, lr: float, resolution: int) -> list[StepLog]:
        """Keep the loss of a step. Returns the steps that became known, none most of the time."""
        self._waiting.append((loss, step, lr, resolution))
        return self.read() if len(self._waiting) >= self._interval else []

    def read(self) -> list[StepLog]:
        """All steps not read yet; waits for the device. Raises DivergedError for a non-finite loss."""
        if not self._waiting:
            return []
        values = torch.stack([loss for loss, *_ in self._waiting]).tolist()
        logs = [
            StepLog(step=step, loss=value, lr=lr, resolution=resolution)
            for value, (_, step, lr, resolution) in zip(values, self._waiting, strict=True)
        ]
        self._waiting = []
        for log in logs:
            if not math.isfinite(log.loss):
                raise _diverged(log)
        return logs


def _diverged(log: StepLog) -> DivergedError:
    return DivergedError(
        f"the loss became {log.loss} at step {log.step} (learning rate {log.lr:.4g}, {log.resolution} px). "
        "Look at the losses before it in metrics.jsonl: a slow rise asks for a lower --optimizer.lr or a "
        "longer --schedule.warmup-epochs; one jump for --precision fp32 (on a GPU), or a look at the images "
        "and labels. last.ckpt, if there is one, is from before it",
        step=log.step,
    )
