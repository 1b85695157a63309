"""The source of a backend whose threads make whole batches, or whose batches the caller's thread makes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import torch

from fastpipe.backends.threads import Batches, Work
from fastpipe.batch import RequestStream, WorkerOptions
from fastpipe.batch.failure import Failure, Results
from fastpipe.batch.host_draws import draw_base_seed
from fastpipe.batch.pool import next_base_seed
from fastpipe.errors import NoEffectWarning
from fastpipe.types import HostBatch

S = TypeVar("S")

_PREFETCH: Final = 2  # batches per thread, torch's own default


class ThreadSource(Generic[S]):
    """A source of batches that `work` makes, in `num_workers` threads or, with 0, in the caller's.

    name: the backend's. make_state: called once per epoch in each thread, for what it reuses from batch to
    batch.
    """

    def __init__(
        self, name: str, work: Work[S, HostBatch], make_state: Callable[[], S], options: WorkerOptions
    ) -> None:
        self._name = name
        self._work = work
        self._make_state = make_state
        self._options = options
        self._base_seed: int | None = None
        _warn_of_no_effect(options, name)

    def base_seed(self) -> int:
        """torch's base seed of the next iterator; of the first one if workers are persistent."""
        return next_base_seed(self._options.generator) if self._base_seed is None else self._base_seed

    def start(self, stream: RequestStream, *, again: bool = False) -> Iterator[HostBatch]:
        """An iterator over the batches. Draws a base seed as torch's iterator would, unless `again`."""
        options = self._options
        if not again and self._base_seed is None:
            draw_base_seed(options.generator)
            self._base_seed = stream.seed if options.persistent_workers else None
        if not options.num_workers:
            return Results(self._in_place(stream))
        return Batches(
            stream,
            self._work,
            self._make_state,
            name=self._name,
            threads=options.num_workers,
            depth=options.num_workers * (options.prefetch_factor or _PREFETCH),
            timeout=options.timeout,
        )

    def close(self) -> None:
        """Only idle threads outlive an epoch, and they belong to the process."""

    def _in_place(self, stream: RequestStream) -> Iterator[HostBatch | Failure]:
        state = self._make_state()
        for request in stream:
            try:
                batch: HostBatch | Failure = self._work(request, state, _never)
            except Exception as error:
                batch = Failure(error)
            yield batch
            del batch  # the consumer owns it now


def _never() -> bool:
    return False


def _warn_of_no_effect(options: WorkerOptions, name: str) -> None:
    useless = {
        "worker_init_fn": options.worker_init_fn is not None,
        "multiprocessing_context": options.multiprocessing_context is not None,
    }
    for argument, given in useless.items():
        if given:
            warnings.warn(
                f"{argument} has no effect with backend={name!r}, which starts threads and no worker "
                "processes",
                NoEffectWarning,
                stacklevel=3,
            )
    if options.pin_memory and not torch.cuda.is_available():
        warnings.warn("pin_memory has no effect: there is no CUDA device", NoEffectWarning, stacklevel=3)
