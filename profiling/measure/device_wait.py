"""Waits for a GPU without counting the wait as work: torch.cuda.synchronize keeps one CPU busy."""

from __future__ import annotations

import threading
import time

import torch

_turn = threading.Lock()
_spun_s = 0.0


def wait_for(device: torch.device) -> None:
    """Return when a CUDA device has finished its work; at once for another device."""
    global _spun_s
    if device.type != "cuda":
        return
    before_s = time.thread_time()
    torch.cuda.synchronize(device)
    with _turn:
        _spun_s += time.thread_time() - before_s


def spun_seconds() -> float:
    """CPU-seconds that the threads of this process have spent in `wait_for`."""
    return _spun_s
