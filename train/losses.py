"""Losses on their way to the log: checked for NaN, and read rarely on CUDA, since reading waits there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastpipe.train.distributed import averaged
from fastpipe.train.errors import DivergedError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLog:
    """One step as it is logged: `step` from 0, `loss` the mean over all ranks, `resolution` in pixels.

    `seconds` is the time since the end of the previous step, with waiting for data and without saving.
    """

    step: int
    loss: float
    lr: float
    resolution: int
    seconds: float = 0.0


class UnreadLosses:
    """Collects the losses of steps, and reads `interval` of them at once.

    tolerant: a non-finite loss is returned unchanged, since its step was skipped.
    """

    def __init__(self, interval: int, *, tolerant: bool = False) -> None:
        self._interval = interval
        self._tolerant = tolerant
        self._waiting: list[tuple[Tensor, int, float, int, float]] = []

    def add(
        self, loss: Tensor, *, step: int, lr: float, resolution: int, seconds: float = 0.0
    ) -> list[StepLog]:
        """Keep the loss of a step. Returns the steps that became known, none most of the time."""
        self._waiting.append((loss, step, lr, resolution, seconds))
        return self.read() if len(self._waiting) >= self._interval else []

    def read(self) -> list[StepLog]:
        """All steps not read yet; waits for the device and the other ranks.

        Raises DivergedError for a non-finite loss of any rank, on every rank.
        """
        if not self._waiting:
            return []
        values = averaged(torch.stack([loss for loss, *_ in self._waiting])).tolist()
        logs = [
            StepLog(step=step, loss=value, lr=lr, resolution=resolution, seconds=seconds)
            for value, (_, step, lr, resolution, seconds) in zip(values, self._waiting, strict=True)
        ]
        self._waiting = []
        for log in logs:
            if not (self._tolerant or math.isfinite(log.loss)):
                raise diverged(log)
        return logs


def diverged(log: StepLog, what: str = "the loss") -> DivergedError:
    """The error for a step whose loss, or `what`, is not finite, with advice."""
    size = f", {log.resolution} px" if log.resolution else ""  # unknown before this process's first step
    return DivergedError(
        f"{what} became {log.loss} at step {log.step} (learning rate {log.lr:.4g}{size}). "
        "Look at the losses before it in metrics.jsonl. If they rise slowly, lower --optimizer.lr or raise "
        "--schedule.warmup-epochs. If they jump once, check the images and labels, or try --precision fp32 "
        "(on a GPU) or --skip-nonfinite N, which skips up to N such steps",
        step=log.step,
    )
