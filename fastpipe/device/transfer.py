"""Copies batches on a separate stream, with the next one in flight while the model computes.

    pinned batch, pinned numbers -> copies -> kernels -> event     the device's side stream
                                                           |
    model of the last batch ................ waits for it -> model of this batch     the script's stream

A process has one side stream per device for all loaders: torch's allocator keeps memory by stream, and
each epoch's own stream would hold the memory of a batch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch

from fastpipe.errors import BackendError

__all__ = ["Transfer"]


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """This process's stream for copying batches to `device` (with an index) and finishing them."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor in page-locked memory if it goes from the CPU to a CUDA device, else itself.

    A copy from other memory makes the host wait until it is done.
    """
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.is_pinned():
        return tensor
    return tensor.pin_memory()


def to_device(data: Any, device: torch.device) -> Any:
    """Every tensor inside nested tuples, lists and mappings, moved without waiting for the copy."""
    if isinstance(data, torch.Tensor):
        return data.to(device, non_blocking=True)
    if isinstance(data, Mapping):
        return {key: to_device(value, device) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(to_device(value, device) for value in data))
    if isinstance(data, list | tuple):
        return type(data)(to_device(value, device) for value in data)
    return data


def _tensors(data: Any) -> list[torch.Tensor]:
    if isinstance(data, torch.Tensor):
        return [data]
    if isinstance(data, Mapping):
        data = list(data.values())
    if isinstance(data, list | tuple):
        return [tensor for value in data for tensor in _tensors(value)]
    return []


def _apart_from_captures() -> AbstractContextManager[None]:
    """Inside the block, a CUDA graph captured by another thread is not disturbed."""
    if torch.version.hip is not None:
        return contextlib.nullcontext()
    from fastpipe.kernels.cuda.driver import Driver

    return Driver.shared().apart_from_captures()


class Transfer:
    """Copies to `device` on its side stream and runs `then` there; on the CPU it only runs `then`.

    Several threads may use it: on a CUDA device, batches enter the stream one after another.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: torch.cuda.Stream | None = side_stream(device) if device.type == "cuda" else None
        # The pinned source must outlive the copy; the allocator knows only the stream it was made on.
        self._in_flight: list[tuple[torch.cuda.Event, Any]] = []
        self._turn = threading.Lock()

    def __call__(
        self, data: Any, then: Callable[[Any], Any] | None = None
    ) -> tuple[Any, torch.cuda.Event | None]:
        """The data on the device, after `then`, and the event to wait for (None on the CPU)."""
        if self.stream is None:
            moved = to_device(data, self.device)
            return (then(moved) if then is not None else moved), None
        with (
            self._turn,
            torch.cuda.device(self.device),
            _apart_from_captures(),
            torch.cuda.stream(self.stream),
        ):
            # Also if `then` raises: the copy is in flight.
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            try:
                moved = to_device(data, self.device)
                result = then(moved) if then is not None else moved
            finally:
                done.record(self.stream)
                self._keep(done, data)
        return result, done

    def _keep(self, done: torch.cuda.Event, data: Any) -> None:
        """Hold what is being copied until `done`."""
        self._in_flight = [held for held in self._in_flight if not held[0].query()]  # type: ignore[no-untyped-call]
        self._in_flight.append((done, data))

    def hand_over(self, data: Any, ready: torch.cuda.Event | None) -> None:
        """Let the current stream wait for `ready`, and tell the allocator who uses the memory.

        Raises BackendError during the capture of a CUDA graph, which cannot hold work of another stream.
        """
        if ready is None:
            return
        if torch.cuda.is_current_stream_capturing():
            raise BackendError(
                "a batch cannot be fetched while a CUDA graph is captured. Fetch it first, and copy it into "
                "the tensors that the graph reads (static.copy_(images))"
            )
        current = torch.cuda.current_stream(self.device)
        current.wait_event(ready)
        for tensor in _tensors(data):
            if tensor.is_cuda:
                tensor.record_stream(current)
