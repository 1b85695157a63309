"""Worker processes that serve requests: torch's own, driven by our request stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Final

import torch
import torch.utils.data
from torch.utils.data import dataloader as torchs

from fastpipe.batch.failure import Failure, Results
from fastpipe.batch.forks import garbage_stays_here
from fastpipe.batch.host_draws import Seeded, draw_base_seed
from fastpipe.batch.requests import RequestStream
from fastpipe.batch.shutdown import end_workers_with
from fastpipe.batch.worker import InitWorker
from fastpipe.types import Request

__all__ = ["WorkerOptions", "WorkerPool", "next_base_seed"]

# A killed process closes its connections before it counts as dead, which matters on busy machines.
_DYING_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """torch.utils.data.DataLoader's own arguments about workers, as the user gave them."""

    num_workers: int = 0
    pin_memory: bool = False
    timeout: float = 0
    worker_init_fn: Callable[[int], None] | None = None
    multiprocessing_context: Any = None
    generator: torch.Generator | None = None
    prefetch_factor: int | None = None
    persistent_workers: bool = False
    in_order: bool = True


def next_base_seed(generator: torch.Generator | None) -> int:
    """The seed that torch's next iterator will draw, without drawing it."""
    copy = torch.Generator("cpu" if generator is None else generator.device)
    copy.set_state(torch.get_rng_state() if generator is None else generator.get_state())
    return draw_base_seed(copy)


def _same(item: Any) -> Any:
    return item


class _Requests(torch.utils.data.Sampler[Request]):
    """Hands torch's iterator the requests that can be had without waiting.

    torch asks again when it gets the next batch, so StopIteration means "not now". sent: how many it took.
    """

    def __init__(self) -> None:
        self.stream: RequestStream | None = None
        self.sent = 0

    def serve(self, stream: RequestStream) -> None:
        """Hand out the requests of this stream from now on."""
        self.stream, self.sent = stream, 0

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        if self.stream is None or not self.stream.ready():
            raise StopIteration
        request = next(self.stream)
        self.sent += 1
        return request


class _Guarded(torch.utils.data.Dataset[Any]):
    """The work, with errors as results: torch's exceptions do not tell a batch's error from a worker's."""

    def __init__(self, work: torch.utils.data.Dataset[Any]) -> None:
        self.dataset = getattr(work, "dataset", work)
        self._work = work

    def __getitem__(self, request: Request) -> Any:
        try:
            return self._work[request]
        except Exception as error:
            return Failure.caught(error)


class _Inner(torch.utils.data.DataLoader[Any]):
    """torch's loader, which here only runs the workers."""

    def check_worker_number_rationality(self) -> None:
        """Silent: the user's loader has already given that warning."""

    def _get_iterator(self) -> Any:
        """torch's hook: its iterators, with a base seed that the script's default device cannot disturb."""
        if not self.num_workers:
            return _SingleProcess(self)
        with garbage_stays_here():
            return _MultiProcessing(self)


def _seeded(base: type[Any]) -> type[Any]:
    """A class of the same name: profilers look for it in the label of a step."""
    return type(base.__name__, (base, Seeded), {"__module__": __name__})


_SingleProcess = _seeded(torchs._SingleProcessDataLoaderIter)
_MultiProcessing = _seeded(torchs._MultiProcessingDataLoaderIter)


class WorkerPool:
    """Runs `work` on requests, in order, in worker processes (or in place with num_workers=0).

    With `persistent_workers` the processes serve one epoch after another.
    """

    def __init__(self, work: torch.utils.data.Dataset[Any], options: WorkerOptions) -> None:
        self._work = _Guarded(work)
        self._options = options
        self._requests = _Requests()
        self._persistent: _Inner | None = None
        self._base_seed: int | None = None

    def base_seed(self) -> int:
        """The key of lifted draws without `seed=`: torch's base seed of the next iterator."""
        if self._persistent is not None and self._base_seed is not None:
            return self._base_seed  # torch draws none for persistent workers
        return next_base_seed(self._options.generator)

    def start(self, stream: RequestStream, *, again: bool = False) -> Iterator[Any]:
        """An iterator over the results; starts the workers at once.

        again: a restart within an epoch, which draws nothing from the user's generator.
        """
        self._requests.serve(stream)
        inner = self._persistent
        if inner is None:
            inner = self._loader(torch.Generator() if again else self._options.generator)
        if self._options.persistent_workers and self._persistent is None:
            self._persistent, self._base_seed = inner, stream.seed
        iterator = iter(inner)
        end_workers_with(iterator)
        most = self._options.num_workers * (inner.prefetch_factor or 0)
        results = _results(iterator, self._requests, stream, most)
        return Results(results, workers=getattr(iterator, "_workers", ()))

    def _loader(self, generator: torch.Generator | None) -> _Inner:
        options = self._options
        return _Inner(
            self._work,
            batch_size=None,
            sampler=self._requests,
            num_workers=options.num_workers,
            collate_fn=_same,
            pin_memory=options.pin_memory,
            timeout=options.timeout,
            worker_init_fn=InitWorker(options.worker_init_fn),
            multiprocessing_context=options.multiprocessing_context,
            generator=generator,
            prefetch_factor=options.prefetch_factor,
            persistent_workers=options.persistent_workers,
            in_order=options.in_order,
        )

    def close(self) -> None:
        """Stop persistent workers; others stop with their iterator."""
        self._persistent = None


def _results(iterator: Any, requests: _Requests, stream: RequestStream, most: int) -> Iterator[Any]:
    try:
        if most:
            yield from _taken(iterator, requests, stream, most)
        yield from iterator  # also lets torch stop its workers
    except (ConnectionError, EOFError) as error:
        _explain_death(iterator, error)
        raise


def _taken(iterator: Any, requests: _Requests, stream: RequestStream, most: int) -> Iterator[Any]:
    """The results of a stream that is fed; torch's iterator alone would end if a request is late."""
    received = 0
    while stream.fed:
        while requests.sent - received < most and stream.ready():
            iterator._try_put_index()
        if requests.sent > received:
            received += 1
            yield next(iterator)
        elif not stream.wait():
            return


def _explain_death(iterator: Iterator[Any], error: Exception) -> None:
    """The tensor of a worker that has died cannot be fetched; torch checks for that too late."""
    workers = getattr(iterator, "_workers", ())
    gone = wait([worker.sentinel for worker in workers], timeout=_DYING_S)
    for worker in workers:
        if worker.sentinel in gone:
            worker.join(_DYING_S)  # its sentinel closes just before it counts as dead
    dead = [str(worker.pid) for worker in workers if not worker.is_alive()]
    if dead:
        raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(dead)}) exited unexpectedly") from error
