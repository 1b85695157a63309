"""The packed buffer of a batch, and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.utils.data
from torch.utils.data import default_collate

from fastpipe.types import HostBatch, Incident, Request

__all__ = ["allocate", "collate_labels"]


def allocate(num: int, height: int, width: int, *, pin: bool = False) -> torch.Tensor:
    """An uninitialised uint8 tensor [num, height, width, 3], in shared memory inside a worker process.

    A worker's buffer crosses to the parent as one handle: the pixels are written once and never copied.
    pin: in page-locked memory, outside a worker process.
    """
    shape = (num, height, width, 3)
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=pin, device="cpu")
    numel = num * height * width * 3
    storage = torch.UntypedStorage._new_shared(numel, device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).view(shape)


def collate_labels(labels: Sequence[Any]) -> Any:
    """int64 [B] for integer labels, else what torch's default_collate makes of them in a batch of pairs."""
    if all(type(label) is int for label in labels):
        return torch.tensor(labels, dtype=torch.int64, device="cpu")
    with torch.device("cpu"):  # independent of the script's default device
        return default_collate([(0, label) for label in labels])[1]  # text stays the tuple that torch makes


def without_samples(request: Request, incidents: tuple[Incident, ...]) -> HostBatch:
    """A batch in which the policy left no sample. The consumer counts it and continues with the next."""
    images = torch.empty((0, 0, 0, 3), dtype=torch.uint8, device="cpu")
    labels = torch.empty(0, dtype=torch.int64, device="cpu")
    return HostBatch(images=images, labels=labels, request=request, incidents=incidents)
