"""Copies to a device as the script starts them, and pinning in the loader's thread."""

from __future__ import annotations

import threading
import time
from typing import Any

import torch

from fastpipe.profiling.observe.patches import Patches


class _Taken(threading.local):
    ns = 0  # a loader's own thread copies too, while the script does something else


class TransferHooks:
    """Times `Tensor.to` and `Tensor.cuda` when a CPU tensor goes to another device.

    This is the host's time: a copy from pinned memory with non_blocking=True returns at once, and nothing
    waits for it or synchronises. Without an accelerator nothing is hooked.
    """

    def __init__(self) -> None:
        self.pin_ns: list[tuple[int, int]] = []  # start, wall
        self._taken = _Taken()
        self._patches = Patches()
        self._pinning = threading.local()
        self._over = False

    def install(self, *, anyway: bool = False) -> None:
        """Hook the copies; `anyway` also on a machine without an accelerator."""
        if anyway or torch.accelerator.is_available():
            for name in ("to", "cuda"):
                self._patches.set(torch.Tensor, name, self._copying(getattr(torch.Tensor, name)))

    def undo(self) -> None:
        """Take the hooks out; a pinning thread that still has one runs torch's function."""
        self._over = True
        self._patches.undo()

    def take(self) -> int:
        """The ns that this thread spent since its last call of this."""
        taken, self._taken.ns = self._taken.ns, 0
        return taken

    def _copying(self, original: Any) -> Any:
        def copying(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            # A compiler that traces the script must see torch's own method.
            if torch.compiler.is_compiling() or tensor.device.type != "cpu":
                return original(tensor, *args, **kwargs)
            start = time.perf_counter_ns()
            moved = original(tensor, *args, **kwargs)
            if moved.device.type != "cpu":
                self._taken.ns += time.perf_counter_ns() - start
            return moved

        return copying

    def pinning(self, original: Any) -> Any:
        """torch's recursive `pin_memory`, its outermost call timed."""

        def pin(data: Any, device: Any = None) -> Any:
            if self._over or getattr(self._pinning, "inside", False):
                return original(data, device)
            self._pinning.inside = True
            start = time.perf_counter_ns()
            try:
                return original(data, device)
            finally:
                self._pinning.inside = False
                self.pin_ns.append((start, time.perf_counter_ns() - start))

        return pin
