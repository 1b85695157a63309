"""One pass over the data: requests out, results in, device stage ahead, batches handed over in order."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from fastpipe.batch import Ahead, RequestStream
from fastpipe.batch.quarantine import IncidentLog
from fastpipe.device import DeviceStage, MixedBatch
from fastpipe.device.transfer import Transfer
from fastpipe.types import Batch, HostBatch, Incident

__all__ = [
    "EpochIterator",
    "Lane",
    "LiftedLane",
    "MovedIterator",
    "PlainLane",
    "Position",
    "Ready",
    "Starter",
]

# One batch waits while the next is made: more would only hold memory, since workers prefetch as well.
_DEPTH = 1


@dataclass(slots=True, kw_only=True)
class Position:
    """How far the latest iterator came: what `state_dict` tells.

    counter: torch's own iterator, which counts for itself, where ours does not stand between.
    generator: the sampler's generator as it was at the epoch's start, uint8.
    sampler: what a stateful sampler said of itself then.
    """

    epoch: int
    delivered: int = 0
    finished: bool = False
    base_seed: int | None = None
    drew_base_seed: bool = True
    generator: torch.Tensor | None = None
    sampler: Any = None
    counter: weakref.ref[Any] | None = None

    def num_delivered(self) -> int:
        """Batches handed to the consumer so far."""
        iterator = self.counter() if self.counter is not None else None
        if iterator is not None:
            self.delivered = iterator._num_yielded
        return self.delivered


@dataclass(slots=True, kw_only=True)
class Ready:
    """A batch that only has to be handed over. `number` is its place in the epoch."""

    number: int
    payload: Any
    incidents: tuple[Incident, ...]


class Starter(Protocol):
    """Begins to serve a stream; `again` for a restart within the epoch."""

    def __call__(self, stream: RequestStream, *, again: bool) -> Iterator[Any]:
        """Results in the stream's order."""


class Lane(Protocol):
    """Turns a worker's result into a ready batch, and that into what the consumer gets."""

    def prepare(self, result: Any) -> Ready:
        """Runs ahead of the consumer, in another thread when there are worker processes."""

    def release(self, ready: Ready) -> Any:
        """Runs in the consumer's thread, on its CUDA stream."""


class LiftedLane:
    """uint8 batches through the device stage to `[images, labels]` (and the parameters for "none")."""

    def __init__(self, stage: DeviceStage) -> None:
        self.stage = stage

    def prepare(self, result: HostBatch) -> Ready:
        """Run the device stage."""
        batch = self.stage(result)
        return Ready(number=batch.request.batch, payload=batch, incidents=result.incidents)

    def release(self, ready: Ready) -> list[Any]:
        """The batch as scripts expect it."""
        batch: Batch = self.stage.hand_over(ready.payload)
        if self.stage.engine_name == "none":
            return [batch.images, batch.labels, batch.params]
        if batch.params.mix is None:
            return [batch.images, batch.labels]
        return MixedBatch(
            (batch.images, batch.labels),
            hard_labels=batch.hard_labels,
            partner=batch.partner,
            weight=batch.params.mix.weight,
        )


class PlainLane:
    """What the user's collate_fn made, moved to the device if one was asked for."""

    def __init__(self, device: torch.device | None) -> None:
        self.transfer = Transfer(device) if device is not None else None

    def prepare(self, result: tuple[Any, tuple[Incident, ...], int]) -> Ready:
        """Start the transfer."""
        data, incidents, number = result
        moved = (data, None) if self.transfer is None else self.transfer(data)
        return Ready(number=number, payload=moved, incidents=incidents)

    def release(self, ready: Ready) -> Any:
        """The batch itself."""
        data, event = ready.payload
        if self.transfer is not None:
            self.transfer.hand_over(data, event)
        return data


class EpochIterator(Iterator[Any]):
    """Yields the batches of one epoch. Behind a batch that raised it goes on, as torch's iterators do.

    in_order: a batch that comes means that all before it have come, or raised.
    ahead: prepare batches in a thread, so that the device stage overlaps with the consumer's work.
    again: the workers' seed was drawn before; draw none from the user's generator.
    """

    def __init__(
        self,
        stream: RequestStream,
        start: Starter,
        lane: Lane,
        position: Position,
        incidents: IncidentLog,
        *,
        in_order: bool,
        ahead: bool,
        again: bool,
    ) -> None:
        self._in_order = in_order
        self._stream = stream
        self._start = start
        self._lane = lane
        self._position = position
        self._incidents = incidents
        self._ahead = ahead
        self._label = f"enumerate(DataLoader)#{type(self).__name__}.__next__"
        self._items = self._begin(again=again)

    def _begin(self, *, again: bool) -> Iterator[Ready]:
        results = self._start(self._stream, again=again)
        prepared = map(self._lane.prepare, results)
        return Ahead(prepared, depth=_DEPTH) if self._ahead else prepared

    def __iter__(self) -> EpochIterator:
        return self

    def __next__(self) -> Any:
        if self._position.finished:
            raise StopIteration
        # The label that profilers and the TensorBoard plug-in look for.
        with torch.autograd.profiler.record_function(self._label):
            try:
                ready = next(self._items)
            except StopIteration:
                self._position.finished = True
                raise
            self._incidents.note(ready.incidents)
            batch = self._lane.release(ready)
        self._count(ready.number)
        return batch

    def _count(self, number: int) -> None:
        if self._in_order:
            self._stream.passed(number)
            self._position.delivered = number + 1
        else:
            self._stream.delivered(number)
            self._position.delivered += 1

    def restart(self) -> None:
        """Drop what was prepared and not delivered, and ask for it again."""
        if self._position.finished:
            return
        self.close()
        self._stream.rewind()
        self._items = self._begin(again=True)

    def close(self) -> None:
        """Stop the thread and the worker processes of this epoch."""
        if isinstance(self._items, Ahead):
            self._items.close()
        self._items = iter(())

    def __getstate__(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")


class MovedIterator(Iterator[Any]):
    """torch's own iterator, with every batch moved to a device."""

    def __init__(self, iterator: Iterator[Any], device: torch.device) -> None:
        self._iterator = iterator
        self._transfer = Transfer(device)
        self._num_yielded = 0

    def __next__(self) -> Any:
        data, ready = self._transfer(next(self._iterator))
        self._transfer.hand_over(data, ready)
        self._num_yielded += 1
        return data
