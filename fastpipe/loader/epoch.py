"""One pass over the data: requests out, results in, device stage ahead, batches handed over in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from fastpipe.batch import Ahead, Drawer, RequestStream
from fastpipe.batch.ids import Trail
from fastpipe.batch.own.results import NotLifted, OwnBatch
from fastpipe.batch.own.sample import Place, with_images
from fastpipe.batch.quarantine import IncidentLog
from fastpipe.batch.worker import Collated
from fastpipe.device import DeviceStage, MixedBatch
from fastpipe.device.transfer import Transfer
from fastpipe.errors import DataError
from fastpipe.loader.stats import Made, Tally
from fastpipe.types import Batch, HostBatch, Incident

# One batch waits while the next is made. More would only hold memory: workers prefetch as well.
_DEPTH = 1


@dataclass(slots=True, kw_only=True)
class Position:
    """The position of the latest iterator, as `state_dict` saves it.

    generator: the loader's generator as it was at the epoch's start, uint8. order_generator: the
    sampler's, if it is another one. sampler: the state of a stateful sampler then. trail: the ids of the
    delivered batches; None if batches come out of order or have no ids.
    """

    epoch: int
    delivered: int = 0
    finished: bool = False
    base_seed: int | None = None
    drew_base_seed: bool = True
    generator: torch.Tensor | None = None
    order_generator: torch.Tensor | None = None
    sampler: Any = None
    trail: Trail | None = None


@dataclass(slots=True)
class Whereabouts:
    """The position of a loader's latest iterator, and the sums over all: neither keeps the other alive."""

    position: Position | None = None
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True, kw_only=True)
class Ready:
    """A batch that is ready to be handed over.

    `number` is its place in the epoch; `empty`: the policy left no sample in it. `broken`: no batch was made,
    because a sample of it may not be lifted.
    """

    number: int
    payload: Any
    incidents: tuple[Incident, ...]
    made: Made
    empty: bool = False
    broken: NotLifted | None = None


class Starter(Protocol):
    """Begins to serve a stream; `again` for a restart within the epoch."""

    def __call__(self, stream: RequestStream, *, again: bool) -> Iterator[Any]:
        """Results, in the stream's order."""


class Lane(Protocol):
    """Turns a worker's result into a ready batch, and a ready batch into what the consumer gets."""

    @property
    def overlaps(self) -> bool:
        """Whether `prepare` takes long enough to run in another thread."""

    def prepare(self, result: Any) -> Ready:
        """Runs ahead of the consumer, in another thread when there are worker processes."""

    def release(self, ready: Ready) -> Any:
        """Runs in the consumer's thread, on its CUDA stream."""


class LiftedLane:
    """uint8 batches through the device stage to `[images, labels]` (and the parameters for "none")."""

    overlaps = True

    def __init__(self, stage: DeviceStage) -> None:
        self.stage = stage

    def prepare(self, result: HostBatch) -> Ready:
        """Run the device stage."""
        if not len(result.request.ids):
            return Ready(
                number=result.request.batch,
                payload=None,
                incidents=result.incidents,
                made=Made.of(result),
                empty=True,
            )
        batch = self.stage(result)
        return Ready(
            number=batch.request.batch, payload=batch, incidents=result.incidents, made=Made.of(result)
        )

    def release(self, ready: Ready) -> list[Any]:
        """The batch as scripts expect it."""
        batch: Batch = self.stage.hand_over(ready.payload)
        if self.stage.engine_name == "none":
            return [batch.images, batch.labels, batch.params]
        if batch.params.mix is None:
            return [batch.images] if batch.labels is None else [batch.images, batch.labels]
        return MixedBatch(
            (batch.images, batch.labels),
            hard_labels=batch.hard_labels,
            partner=batch.partner,
            weight=batch.params.mix.weight,
        )


class OwnLane(LiftedLane):
    """Batches of a script's own data set: the images go back to their place in what default_collate made."""

    def __init__(self, stage: DeviceStage, place: Place, *, plain: bool) -> None:
        super().__init__(stage)
        self._place = place
        self._plain = plain
        self._rest = Transfer(stage.device)

    def prepare(self, result: HostBatch | NotLifted) -> Ready:
        """Run the device stage, unless a sample broke a condition."""
        if isinstance(result, NotLifted):
            number = result.request.batch
            return Ready(number=number, payload=None, incidents=(), made=Made(0), broken=result)
        ready = super().prepare(result)
        if self._plain or ready.empty or not isinstance(result, OwnBatch):
            return ready
        on_cpu = self.stage.device.type == "cpu"
        ready.payload = ready.payload, (result.rest, None) if on_cpu else self._rest(result.rest)
        return ready

    def release(self, ready: Ready) -> Any:
        """The batch as torch's default_collate makes it."""
        if self._plain:
            return super().release(ready)
        made, (rest, event) = ready.payload
        self._rest.hand_over(rest, event)
        return with_images(rest, self._place, self.stage.hand_over(made).images)


class PlainLane:
    """The output of the user's collate_fn, moved to the device if one was given."""

    def __init__(self, device: torch.device | None) -> None:
        self.transfer = Transfer(device) if device is not None else None
        self.overlaps = device is not None

    def prepare(self, result: Collated) -> Ready:
        """Start the transfer."""
        data, incidents, number, num, empty = result
        moved = (data, None) if self.transfer is None or empty else self.transfer(data)
        return Ready(number=number, payload=moved, incidents=incidents, made=Made(num), empty=empty)

    def release(self, ready: Ready) -> Any:
        """The batch itself."""
        data, event = ready.payload
        if self.transfer is not None:
            self.transfer.hand_over(data, event)
        return data


class EpochIterator(Iterator[Any]):
    """Yields the batches of one epoch. It continues after a batch that raised, as torch's iterators do.

    A batch in which the policy for broken samples left no sample is counted and not yielded; an epoch of
    only such batches raises DataError.

    in_order: every batch before a delivered one was delivered, or raised. ahead: 0, or how many batches a
    thread prepares, so that the device stage overlaps with the consumer's work. The sampler then stays in the
    consumer's thread: it is asked for that many batches at once, as torch asks it, and for one more after
    each delivered batch. again: the workers' seed was drawn before; draw none from the user's generator.
    tally: counts what is delivered. unlifted: called when a sample may not be lifted; gives what makes this
    batch and the later ones.
    """

    def __init__(
        self,
        drawer: Drawer,
        start: Starter,
        lane: Lane,
        position: Position,
        incidents: IncidentLog,
        *,
        in_order: bool,
        ahead: int,
        again: bool,
        tally: Tally | None = None,
        unlifted: Callable[[NotLifted], tuple[Starter, Lane]] | None = None,
    ) -> None:
        self._unlifted = unlifted
        self._tally = Tally() if tally is None else tally
        self._in_order = in_order
        self._drawer = drawer
        self._stream = RequestStream(drawer)
        self._start = start
        self._lane = lane
        self._position = position
        self._incidents = incidents
        self._ahead = ahead
        self._nothing = not position.delivered  # batches handed over in the whole epoch
        self._label = f"enumerate(DataLoader)#{type(self).__name__}.__next__"
        self._results: Iterator[Any]
        self._items = self._begin(again=again)

    def _begin(self, *, again: bool) -> Iterator[Ready]:
        self._results = self._start(self._stream, again=again)
        prepared = map(self._lane.prepare, self._results)
        if not self._ahead:
            return prepared
        self._stream.hand_over()
        self._stream.feed(self._drawer, self._ahead - self._drawer.num_pending)
        return Ahead(prepared, depth=_DEPTH, wake=self._stream.close)

    @property
    def _workers(self) -> list[Any]:
        """The worker processes, under the name that torch's iterators use."""
        return list(getattr(self._results, "workers", ()))

    def __iter__(self) -> EpochIterator:
        return self

    def __next__(self) -> Any:
        if self._position.finished:
            raise StopIteration
        # The label that profilers and the TensorBoard plug-in look for.
        with torch.autograd.profiler.record_function(self._label):
            while True:
                began = time.perf_counter()
                ready = self._take()
                self._tally.seconds_waited += time.perf_counter() - began
                if fault := self._drawer.faults.pop(ready.number, None):
                    raise fault
                if ready.broken is not None and self._unlifted is not None:
                    self._start, self._lane = self._unlifted(ready.broken)
                    self.restart()
                    continue
                self._incidents.note(ready.incidents)
                self._tally.add(ready.made, ready.incidents)
                batch = None if ready.empty else self._lane.release(ready)
                self._count(ready.number)
                if not ready.empty:
                    self._nothing = False
                    return batch

    def _take(self) -> Ready:
        try:
            ready = next(self._items)
        except StopIteration:
            self._position.finished = True
            self._check_that_something_came()
            raise
        except Exception:
            self._ask_for_another()
            raise
        self._ask_for_another()
        return ready

    def _ask_for_another(self) -> None:
        if self._ahead and not getattr(self._results, "over", False):
            self._stream.feed(self._drawer)

    def _check_that_something_came(self) -> None:
        if self._nothing and self._position.delivered:
            raise DataError(
                f"no sample of epoch {self._position.epoch} can be read: on_error skipped all of its "
                f"{self._position.delivered} batches. The log and the quarantine list say why"
            )

    def _count(self, number: int) -> None:
        if self._in_order:
            self._drawer.passed(number)
            self._position.delivered = number + 1
        else:
            self._drawer.delivered(number)
            self._position.delivered += 1

    def restart(self) -> None:
        """Drop what was prepared but not delivered, and request it again."""
        if self._position.finished:
            return
        self.close()
        self._stream.refill(self._drawer.pending())
        self._items = self._begin(again=True)

    def close(self) -> None:
        """Stop the thread and the worker processes of this epoch."""
        self._stream.close()
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

    def __next__(self) -> Any:
        data, ready = self._transfer(next(self._iterator))
        self._transfer.hand_over(data, ready)
        return data

    def __getattr__(self, name: str) -> Any:
        """The attributes of torch's iterators, such as `_workers`."""
        return getattr(self.__dict__["_iterator"], name)
