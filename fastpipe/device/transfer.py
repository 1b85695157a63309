"""Batches travel on a stream of their own, with the next one in flight while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["Transfer", "to_device"]


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


class Transfer:
    """Copies to `device` on a side stream and runs `then` there; on the CPU it only runs `then`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # The pinned source must outlive the copy; the allocator knows only the stream it was made on.
        self._in_flight: list[tuple[torch.cuda.Event, Any]] = []

    def __call__(
        self, data: Any, then: Callable[[Any], Any] | None = None
    ) -> tuple[Any, torch.cuda.Event | None]:
        """The data on the device, after `then`, and the event to wait for (None on the CPU)."""
        if self.stream is None:
            moved = to_device(data, self.device)
            return (then(moved) if then is not None else moved), None
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            moved = to_device(data, self.device)
            result = then(moved) if then is not None else moved
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self.stream)
        self._in_flight = [held for held in self._in_flight if not held[0].query()]  # type: ignore[no-untyped-call]
        self._in_flight.append((done, data))
        return result, done

    def hand_over(self, data: Any, ready: torch.cuda.Event | None) -> None:
        """Let the current stream wait for `ready`, and tell the allocator who uses the memory."""
        if ready is None:
            return
        current = torch.cuda.current_stream(self.device)
        current.wait_event(ready)
        for tensor in _tensors(data):
            if tensor.is_cuda:
                tensor.record_stream(current)
