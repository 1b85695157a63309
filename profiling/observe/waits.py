"""Hooks in the main process: how long each `next()` of each DataLoader keeps the script waiting."""

from __future__ import annotations

import multiprocessing
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import _utils, dataloader

from fastpipe.profiling.observe import worker
from fastpipe.profiling.observe.memory import Memory, measure_workers, shm_used
from fastpipe.profiling.observe.patches import Patches
from fastpipe.profiling.observe.recorder import Control, Recorder
from fastpipe.profiling.observe.stages import StageHooks
from fastpipe.profiling.observe.transfer import TransferHooks

__all__ = ["LoaderFacts", "Observer", "Stopped", "Wait"]


class Stopped(BaseException):
    """Ends the script of `--stop`; no Exception, so that `except Exception` lets it through."""


@dataclass(slots=True)
class Wait:
    """One batch as the main process saw it; ns.

    end is when the script had the batch, next_start when it asked any loader for another. own is what
    observing took.
    """

    loader: int
    start: int
    end: int
    own: int
    since_epoch_start: int | None = None  # of the first batch: from iter() to the batch
    epoch: int = 0
    hidden: bool = False  # the GPU was still at work when the batch came
    next_start: int | None = None
    transfer: int = 0


@dataclass(slots=True)
class LoaderFacts:
    """What is known of a DataLoader of the script. The data set is let go when the report is made."""

    number: int
    kind: str
    dataset: Any
    collate_fn: Any
    batch_size: int | None
    num_workers: int
    start_method: str
    pin_memory: bool
    persistent: bool
    batched: bool = True  # False: batch_size=None, samples come one by one
    epochs: int = 0


class Observer:
    """Installs the hooks, keeps one `Wait` a batch, and closes the window after `warmup + steps` batches.

    `on_close` is called once, in the middle of the script, between two of its steps.
    """

    def __init__(
        self, folder: Path, *, warmup: int, steps: int, spans: bool, on_close: Callable[[], None]
    ) -> None:
        self.pid = os.getpid()
        self.warmup = warmup
        self.steps = steps
        self.waits: list[Wait] = []
        self.loaders: dict[int, LoaderFacts] = {}
        self.memory: list[Memory] = []
        self.shm_peak = 0
        self.closed_at: int | None = None
        self._shm_start = shm_used()
        self.on_close = on_close
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._iterators: weakref.WeakSet[Any] = weakref.WeakSet()
        self._control = Control(folder)
        self._recorder = Recorder(folder, self._control, loader=-1, worker=-1, spans=spans)
        self._loop = worker.ObservedLoop(folder, spans, _utils.worker._worker_loop)
        self._stages: StageHooks | None = None
        self._transfer = TransferHooks()
        self._patches = Patches()

    def install(self) -> None:
        """Observe every DataLoader iterator made from now on."""
        self._stages = StageHooks(self._recorder)
        worker.inherit(self._stages)
        self._patches.set(_utils.worker, "_worker_loop", self._loop)
        self._patches.set(
            _utils.pin_memory, "pin_memory", self._transfer.pinning(_utils.pin_memory.pin_memory)
        )
        single, many = dataloader._SingleProcessDataLoaderIter, dataloader._MultiProcessingDataLoaderIter
        self._patches.set(single, "__init__", self._observed_init(single.__init__))
        self._patches.set(many, "__init__", self._observed_init(many.__init__))
        self._patches.set(many, "_reset", self._observed_reset(many._reset))
        base = dataloader._BaseDataLoaderIter
        self._patches.set(base, "__next__", self._observed_next(base.__next__))
        self._transfer.install()

    @property
    def over(self) -> bool:
        """Whether the hooks are out again."""
        return self.closed_at is not None

    @property
    def pins(self) -> list[tuple[int, int]]:
        """Start and length of each batch's pinning, ns."""
        return self._transfer.pin_ns

    def close(self) -> None:
        """Take the hooks out, measure the workers' memory, let workers stop observing. Safe to call twice."""
        if self.over or os.getpid() != self.pid:
            return
        self.closed_at = time.perf_counter_ns()
        self._control.finish()
        self._patches.undo()
        self._transfer.undo()
        worker.disinherit()
        if self._stages is not None:
            self._stages.undo()
        pids = {
            process.pid: iterator._fastpipe_epoch[0]
            for iterator in list(self._iterators)
            for process in getattr(iterator, "_workers", [])
        }
        self.memory = measure_workers(pids)
        self.on_close()

    def _number(self, loader: Any) -> int:
        number = self._numbers.get(loader)
        if number is None:
            number = self._numbers[loader] = len(self.loaders)
            self.loaders[number] = _facts(number, loader)
        return number

    def _observed_init(self, original: Any) -> Any:
        def init(iterator: Any, loader: Any) -> None:
            if os.getpid() != self.pid or self.over:
                original(iterator, loader)
                return
            number = self._loop.loader = self._number(loader)
            self._begin(iterator, number)
            original(iterator, loader)
            self._iterators.add(iterator)
            fetcher = getattr(iterator, "_dataset_fetcher", None)
            if fetcher is not None:
                fetcher._fastpipe_loader = number

        return init

    def _observed_reset(self, original: Any) -> Any:
        def reset(iterator: Any, loader: Any, first_iter: bool = False) -> None:
            if not first_iter and os.getpid() == self.pid:
                self._begin(iterator, self._number(loader))
            original(iterator, loader, first_iter)

        return reset

    def _begin(self, iterator: Any, number: int) -> None:
        facts = self.loaders[number]
        iterator._fastpipe_epoch = (number, facts.epochs, time.perf_counter_ns())
        iterator._fastpipe_first = True
        facts.epochs += 1

    def _observed_next(self, original: Any) -> Any:
        def following(iterator: Any) -> Any:
            entered = time.perf_counter_ns()
            epoch = vars(iterator).get("_fastpipe_epoch")
            if epoch is None or os.getpid() != self.pid or self.over:
                return original(iterator)
            self._before(entered)
            start = time.perf_counter_ns()
            batch = original(iterator)
            end = time.perf_counter_ns()
            self._after(iterator, epoch, entered, start, end)
            return batch

        return following

    def _before(self, entered: int) -> None:
        if self.waits and self.waits[-1].next_start is None:
            self.waits[-1].next_start = entered
            self.waits[-1].transfer = self._transfer.take()
        if len(self.waits) >= self.warmup + self.steps:
            self.close()

    def _after(self, iterator: Any, epoch: tuple[int, int, int], entered: int, start: int, end: int) -> None:
        number, count, began = epoch
        wait = Wait(loader=number, start=start, end=end, own=0, epoch=count, hidden=_gpu_busy())
        if iterator._fastpipe_first:
            iterator._fastpipe_first = False
            wait.since_epoch_start = end - began
        self.waits.append(wait)
        self.shm_peak = max(self.shm_peak, shm_used() - self._shm_start)
        self._transfer.take()
        wait.own = (start - entered) + (time.perf_counter_ns() - end)


def _gpu_busy() -> bool:
    """Whether the GPU still has work of the current stream: then the wait has cost nothing yet."""
    cuda: Any = torch.cuda
    return bool(cuda.is_initialized()) and not cuda.current_stream().query()


def _facts(number: int, loader: Any) -> LoaderFacts:
    context = loader.multiprocessing_context
    return LoaderFacts(
        number=number,
        kind=f"{type(loader).__name__} over {type(loader.dataset).__name__}",
        dataset=loader.dataset,
        collate_fn=loader.collate_fn,
        batch_size=loader.batch_size if loader.batch_size is not None else _size(loader.batch_sampler),
        num_workers=loader.num_workers,
        start_method="" if not loader.num_workers else (context or multiprocessing).get_start_method(),
        pin_memory=loader.pin_memory,
        persistent=loader.persistent_workers,
        batched=loader.batch_sampler is not None,
    )


def _size(batch_sampler: Any) -> int | None:
    size = getattr(batch_sampler, "batch_size", None)
    return size if isinstance(size, int) else None
