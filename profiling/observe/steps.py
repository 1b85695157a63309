"""A step of the script: one batch as the main process saw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(slots=True)
class Wait:
    """One batch as the main process saw it; ns.

    end: when the script received the batch; next_start: when it next asked any loader. own: the cost of
    observing.
    """

    loader: int
    start: int
    end: int
    own: int
    since_epoch_start: int | None = None  # of the first batch: from iter() to the batch
    epoch: int = 0
    hidden: bool = False  # the GPU was still at work when the batch came
    next_start: int | None = None
    transfer: int = 0
    stepped: bool = False  # an optimizer stepped before the next batch
    grad: bool = True  # gradients were recorded when it was asked for
    images: int | None = None  # in the batch, as far as its form tells


def num_images(batch: Any) -> int | None:
    """The length of the first tensor in it; None without a tensor."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.dim() else None
    parts = batch.values() if isinstance(batch, Mapping) else batch
    if isinstance(batch, Mapping | list | tuple) and len(batch):
        return num_images(next(iter(parts)))
    return None


def gpu_busy() -> bool:
    """Whether the GPU still has work of the current stream: then the wait has cost nothing yet."""
    cuda: Any = torch.cuda
    return bool(cuda.is_initialized()) and not cuda.current_stream().query()
