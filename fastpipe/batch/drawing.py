"""From the sampler's batches to requests, in the script's own thread.

A sampler may draw from a global generator, and so may a `target_transform`: the order of their draws relative
to the script's own must not depend on a thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import default_collate

from fastpipe.batch.host_draws import batches_of
from fastpipe.batch.ids import Trail, draw_keys, positions
from fastpipe.types import IntArray, Request

__all__ = ["Drawer", "Reader", "read_one", "read_positions", "read_samples"]

Resolution = Callable[[int, int], int | None]
# (the sampler's output, place of its first id in the order) -> (keys of its ids, input of the data set)
Reader = Callable[[Any, int], tuple[IntArray, Any]]
Labels = Callable[[Request], tuple[Any, ...]]

_NONE = np.empty(0, dtype=np.int64)


def read_positions(batch: Any, position: int) -> tuple[IntArray, Any]:
    """For a lifted data set, which is a list of files. An empty batch raises what torch's collate raises."""
    ids = positions(batch)
    if not len(ids):
        default_collate([])
    return ids, None


def read_samples(batch: Any, position: int) -> tuple[IntArray, Any]:
    """For the script's own data set: ids unchanged. One-shot iterables become a list."""
    if not isinstance(batch, list | tuple) and not hasattr(batch, "__array__"):
        batch = list(batch)
    return draw_keys(list(batch), position), batch


def read_one(sample: Any, position: int) -> tuple[IntArray, Any]:
    """For batch_size=None: what the sampler gives goes to the data set unchanged, even a list of ids."""
    return draw_keys([sample], position), sample


class Drawer:
    """Draws the requests of one epoch, and remembers those that were not delivered.

    batches: the ids of each batch (a batch sampler's iterator). read: converts them. skip: batches
    delivered earlier, whose ids are replayed and whose pixels are not. repeats: see contracts, section 1:
    given for the rank's whole order if a sampler knows the global one, else counted within this order.
    rank: goes into every request. labels: makes the labels that go into a request, for backends that start no
    process. trail: the ids of the batches that were passed. faults: by batch, the error of unusable ids, for
    the consumer to raise.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        *,
        seed: int,
        epoch: int,
        resolution: Resolution,
        read: Reader = read_positions,
        repeats: IntArray | None = None,
        skip: int = 0,
        rank: int = 0,
        labels: Labels | None = None,
    ) -> None:
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.trail = Trail()
        self.faults: dict[int, Exception] = {}
        self._source: Iterator[Any] = batches_of(batches)
        self._resolution = resolution
        self._read = read
        self._known_repeats = repeats
        self._labels = labels
        self._seen: dict[int, int] = {}
        self._position = 0
        self._next_batch = 0
        self._skip = skip
        self._undelivered: deque[Request] = deque()

    def draw(self) -> Request:
        """The next request, at the current size. StopIteration at the end of the order.

        A batch without usable ids becomes a request without any, and its error is in `faults`.
        """
        self.fast_forward()
        request = self._pull()
        try:
            request = self._sized(request)
            if self._labels is not None:
                request = replace(request, labels=self._labels(request))
        except Exception as error:
            request = self._fault(request, error)
        self._undelivered.append(request)
        return request

    def fast_forward(self) -> None:
        """Draw the ids of the batches delivered earlier now, not at the first request."""
        while self._next_batch < self._skip:
            self.trail.add(self._pull().ids)

    def _pull(self) -> Request:
        batch = next(self._source)
        request = Request(
            seed=self.seed, epoch=self.epoch, batch=self._next_batch, ids=_NONE, repeats=_NONE, rank=self.rank
        )
        self._next_batch += 1
        try:
            ids, asked = self._read(batch, self._position)
        except Exception as error:
            return self._fault(request, error)
        request = replace(request, ids=ids, repeats=self._repeats_of(ids), asked=asked)
        self._position += len(ids)
        return request

    def _fault(self, request: Request, error: Exception) -> Request:
        if isinstance(error, StopIteration):  # raised out of the consumer's next(), it would end the epoch
            error = RuntimeError(f"batch {request.batch} raised StopIteration: {error}")
        self.faults[request.batch] = error
        return replace(request, ids=_NONE, repeats=_NONE, asked=None)

    def _repeats_of(self, ids: IntArray) -> IntArray:
        if self._known_repeats is not None:
            return self._known_repeats[self._position : self._position + len(ids)]
        counts = np.empty(len(ids), dtype=np.int64)
        for place, sample_id in enumerate(ids.tolist()):
            counts[place] = self._seen.get(sample_id, 0)
            self._seen[sample_id] = int(counts[place]) + 1
        return counts

    def _sized(self, request: Request) -> Request:
        return replace(request, size=self._resolution(self.epoch, request.batch))

    def delivered(self, batch: int) -> None:
        """Forget batch number `batch`: it is the consumer's now."""
        for place, request in enumerate(self._undelivered):
            if request.batch == batch:
                del self._undelivered[place]
                return

    def passed(self, batch: int) -> None:
        """Forget batches up to number `batch`: the consumer has them, or continued after their errors."""
        while self._undelivered and self._undelivered[0].batch <= batch:
            self.trail.add(self._undelivered.popleft().ids)

    def pending(self) -> list[Request]:
        """The requests drawn but not delivered, at the current size."""
        self._undelivered = deque(self._sized(request) for request in self._undelivered)
        return list(self._undelivered)

    @property
    def num_pending(self) -> int:
        """How many requests were drawn but not delivered."""
        return len(self._undelivered)
