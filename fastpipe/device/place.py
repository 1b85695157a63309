"""Which device batches go to if the script does not name one."""

from __future__ import annotations

import os
import warnings

import torch

__all__ = ["resolve_device"]


def resolve_device(device: torch.device | str | int | None) -> torch.device:
    """The device asked for; None is the current CUDA device, else the CPU.

    None in a process that torchrun started (LOCAL_RANK above 0) and that has not called
    torch.cuda.set_device is the GPU with the number of its LOCAL_RANK, and a warning says so.
    """
    if device is None:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", _of_this_rank(torch.cuda.current_device()))
    chosen = torch.device(device)
    if chosen == torch.device("cuda"):  # without an index: the current one
        return torch.device("cuda", torch.cuda.current_device())
    return chosen


def _of_this_rank(current: int) -> int:
    """The number of this process's GPU among several, if the script has left the first one current."""
    text, count = os.environ.get("LOCAL_RANK", ""), torch.cuda.device_count()
    rank = int(text) if text.isdigit() else 0
    if current != 0 or rank == 0 or count == 1:
        return current
    found = rank if rank < count else current
    why = "its own" if rank < count else f"the current one, since there are only {count}"
    warnings.warn(
        f"LOCAL_RANK is {rank} and torch.cuda.set_device was not called: batches go to cuda:{found}, {why}. "
        f"Call torch.cuda.set_device({rank}) before anything else, or pass device= to the DataLoader",
        RuntimeWarning,
        stacklevel=3,
    )
    return found
