"""The stream of batch requests of one epoch: ids in, requests out, with replay of what was not delivered."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from fastpipe.types import IntArray, Request

__all__ = ["RequestStream", "current_rank"]

Resolution = Callable[[int, int], int | None]


def current_rank() -> int:
    """This process's rank in the default process group, or 0 without one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank())
    return 0


class RequestStream:
    """Iterates over the requests of one epoch and remembers those that were sent and not delivered.

    batches: the ids of each batch (a batch sampler's iterator). skip: batches delivered earlier,
    whose ids are replayed and whose pixels are not. repeats: see contracts, section 1: given for the
    rank's whole order where a sampler knows the global one, else counted within this order. rank: goes into
    every request.
    The seed may be set until the first request is taken: torch draws it while the workers start.
    """

    def __init__(
        self,
        batches: Iterable[Sequence[int]],
        *,
        seed: int,
        epoch: int,
        resolution: Resolution,
        repeats: IntArray | None = None,
        skip: int = 0,
        rank: int = 0,
    ) -> None:
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self._source: Iterator[Sequence[int]] = iter(batches)
        self._resolution = resolution
        self._known_repeats = repeats
        self._seen: dict[int, int] = {}
        self._position = 0
        self._next_batch = 0
        self._skip = skip
        self._undelivered: deque[Request] = deque()
        self._replay: deque[Request] = deque()
        self._lock = threading.Lock()

    def __iter__(self) -> RequestStream:
        return self

    def __next__(self) -> Request:
        with self._lock:
            self._fast_forward()
            request = self._replay.popleft() if self._replay else self._pull()
            request = self._sized(request)
            self._undelivered.append(request)
            return request

    def fast_forward(self) -> None:
        """Draw the ids of the batches that were delivered earlier now, not at the first request."""
        with self._lock:
            self._fast_forward()

    def _fast_forward(self) -> None:
        while self._next_batch < self._skip:
            self._pull()

    def _pull(self) -> Request:
        ids = np.asarray(next(self._source), dtype=np.int64).reshape(-1)
        repeats = self._repeats_of(ids)
        self._position += len(ids)
        request = Request(
            seed=self.seed,
            epoch=self.epoch,
            batch=self._next_batch,
            ids=ids,
            repeats=repeats,
            rank=self.rank,
        )
        self._next_batch += 1
        return request

    def _repeats_of(self, ids: IntArray) -> IntArray:
        if self._known_repeats is not None:
            return self._known_repeats[self._position : self._position + len(ids)]
        counts = np.empty(len(ids), dtype=np.int64)
        for place, sample_id in enumerate(ids.tolist()):
            counts[place] = self._seen.get(sample_id, 0)
            self._seen[sample_id] = int(counts[place]) + 1
        return counts

    def _sized(self, request: Request) -> Request:
        return Request(
            seed=self.seed,
            epoch=request.epoch,
            batch=request.batch,
            ids=request.ids,
            repeats=request.repeats,
            size=self._resolution(self.epoch, request.batch),
            rank=request.rank,
        )

    def delivered(self, batch: int) -> None:
        """Forget batch number `batch`: it is the consumer's now."""
        with self._lock:
            for place, request in enumerate(self._undelivered):
                if request.batch == batch:
                    del self._undelivered[place]
                    return

    def passed(self, batch: int) -> None:
        """Forget batches up to number `batch`: the consumer has them, or went on behind their errors."""
        with self._lock:
            while self._undelivered and self._undelivered[0].batch <= batch:
                self._undelivered.popleft()

    def rewind(self) -> None:
        """Ask again for everything that was sent and not delivered, at the size that holds now."""
        with self._lock:
            pending = sorted((*self._undelivered, *self._replay), key=lambda request: request.batch)
            self._undelivered.clear()
            self._replay = deque(pending)
