"""Hooks in the main process: how long each `next()` of each DataLoader keeps the script waiting."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import _utils, dataloader

from fastpipe.profiling.observe import worker
from fastpipe.profiling.observe.calls import raw
from fastpipe.profiling.observe.loaders import LoaderFacts, Register, is_ours
from fastpipe.profiling.observe.memory import Memory, measure_workers, shm_used
from fastpipe.profiling.observe.ours import DevicePass, OwnHooks
from fastpipe.profiling.observe.patches import Patches
from fastpipe.profiling.observe.recorder import Control, Recorder
from fastpipe.profiling.observe.stages import StageHooks
from fastpipe.profiling.observe.steps import Wait, gpu_busy, num_images
from fastpipe.profiling.observe.transfer import TransferHooks


class Stopped(BaseException):
    """Ends the script of `--stop`. It is not an Exception, so that `except Exception` lets it through."""


class _Inside(threading.local):
    loader = False  # this thread is in an observed next()


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
        self._register = Register()
        self.memory: list[Memory] = []
        self.shm_peak = 0
        self.closed_at: int | None = None
        self._shm_start = shm_used()
        self.on_close = on_close
        self._iterators: weakref.WeakSet[Any] = weakref.WeakSet()
        self._inside = _Inside()
        self._control = Control(folder)
        self._folder, self._spans = folder, spans
        self._recorder = Recorder(folder, self._control, loader=-1, worker=-1, spans=spans)
        self._loop = worker.ObservedLoop(folder, spans, _utils.worker._worker_loop)
        self._stages: StageHooks | None = None
        self._own: OwnHooks | None = None
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
        self._observe_class(dataloader._BaseDataLoaderIter)
        made = torch.utils.data.DataLoader
        self._patches.set(made, "__init__", self._observed_making(made.__init__))
        self._own = OwnHooks(
            self._folder,
            self._control,
            self._stages,
            spans=self._spans,
            number_of=self._register.number,
            begun=self._begun,
        )
        self._own.install()
        self._stepping = register_optimizer_step_post_hook(self._stepped)
        self._transfer.install()

    @property
    def loaders(self) -> dict[int, LoaderFacts]:
        """The facts about each loader that was read, by its number."""
        return self._register.facts

    @property
    def over(self) -> bool:
        """Whether the hooks are removed."""
        return self.closed_at is not None

    @property
    def pins(self) -> list[tuple[int, int]]:
        """Start and length of each batch's pinning, ns."""
        return self._transfer.pin_ns

    @property
    def device(self) -> list[DevicePass]:
        """Each pass of a device stage, see `OwnHooks`."""
        return [] if self._own is None else self._own.device

    def close(self) -> None:
        """Remove the hooks, measure the workers' memory, let workers stop observing. Safe to call twice."""
        if self.over or os.getpid() != self.pid:
            return
        self.closed_at = time.perf_counter_ns()
        self._control.finish()
        self._patches.undo()
        if self._own is not None:
            self._own.undo()
            self._stepping.remove()
        self._transfer.undo()
        worker.disinherit()
        if self._stages is not None:
            self._stages.undo()
        pids = {
            process.pid: iterator._fastpipe_number
            for iterator in list(self._iterators)
            for process in getattr(iterator, "_workers", [])
        }
        self.memory = measure_workers(pids)
        self.on_close()

    def _observed_making(self, original: Any) -> Any:
        @functools.wraps(original)
        def init(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            if os.getpid() == self.pid and not self.over:
                self._register.made(loader)

        return init

    def _owner(self, loader: Any) -> tuple[int | None, bool]:
        """The number of the script's loader that this one serves, and whether it is that loader itself."""
        own = self._own
        if own is not None and own.making is not None:
            return own.making, False
        if type(loader).__module__.partition(".")[0] != "fastpipe" or is_ours(loader):
            return self._register.number(loader), True
        # The iterator that runs the workers of fastpipe's loader, made again within an epoch.
        dataset = getattr(loader.dataset, "dataset", loader.dataset)
        return (None if own is None else own.number_of_data(dataset)), False

    def _observed_init(self, original: Any) -> Any:
        def init(iterator: Any, loader: Any) -> None:
            if os.getpid() != self.pid or self.over:
                original(iterator, loader)
                return
            number, itself = self._owner(loader)
            self._loop.loader = -1 if number is None else number
            if number is not None and itself:
                self._begin(iterator, number, time.perf_counter_ns())
            original(iterator, loader)
            if number is not None:
                iterator._fastpipe_number = number
                self._iterators.add(iterator)
            fetcher = getattr(iterator, "_dataset_fetcher", None)
            if fetcher is not None:
                fetcher._fastpipe_loader = self._loop.loader

        return init

    def _observed_reset(self, original: Any) -> Any:
        def reset(iterator: Any, loader: Any, first_iter: bool = False) -> None:
            if not first_iter and os.getpid() == self.pid and not self.over:
                number, itself = self._owner(loader)
                if number is not None and itself:
                    self._begin(iterator, number, time.perf_counter_ns())
            original(iterator, loader, first_iter)

        return reset

    def _begun(self, loader: Any, iterator: Any, began: int) -> None:
        """fastpipe's loader has returned an iterator: torch's, or its own around torch's."""
        number = self._register.number(loader)
        if self.loaders[number].epochs == 0:
            self._register.learn(number, loader)
        self._begin(iterator, number, began)
        self._observe_class(type(iterator))

    def _begin(self, iterator: Any, number: int, began: int) -> None:
        facts = self.loaders[number]
        iterator._fastpipe_epoch = (number, facts.epochs, began)
        iterator._fastpipe_first = True
        facts.epochs += 1

    def _observe_class(self, cls: type) -> None:
        following = getattr(cls, "__next__", None)
        if following is not None and raw(following) is following:
            self._patches.set(cls, "__next__", self._observed_next(following))

    def _observed_next(self, original: Any) -> Any:
        def following(iterator: Any) -> Any:
            entered = time.perf_counter_ns()
            epoch = vars(iterator).get("_fastpipe_epoch")
            # Inside another iterator: torch's, which serves fastpipe's in the same thread.
            if epoch is None or self._inside.loader or os.getpid() != self.pid or self.over:
                return original(iterator)
            self._before(entered)
            start = time.perf_counter_ns()
            self._inside.loader = True
            try:
                batch = original(iterator)
            finally:
                self._inside.loader = False
            end = time.perf_counter_ns()
            self._after(iterator, batch, epoch, entered, start, end)
            return batch

        following._fastpipe_original = original  # type: ignore[attr-defined]
        return following

    def _stepped(self, *_: Any) -> None:
        """An optimizer's step is over."""
        if self.waits and os.getpid() == self.pid:
            self.waits[-1].stepped = True

    def _before(self, entered: int) -> None:
        if self.waits and self.waits[-1].next_start is None:
            self.waits[-1].next_start = entered
            self.waits[-1].transfer = self._transfer.take()
        if len(self.waits) >= self.warmup + self.steps:
            self.close()

    def _after(
        self, iterator: Any, batch: Any, epoch: tuple[int, int, int], entered: int, start: int, end: int
    ) -> None:
        number, count, began = epoch
        wait = Wait(loader=number, start=start, end=end, own=0, epoch=count, hidden=gpu_busy())
        wait.grad = torch.is_grad_enabled()
        wait.images = num_images(batch)
        if iterator._fastpipe_first:
            iterator._fastpipe_first = False
            wait.since_epoch_start = end - began
        self.waits.append(wait)
        self.shm_peak = max(self.shm_peak, shm_used() - self._shm_start)
        self._transfer.take()
        wait.own = (start - entered) + (time.perf_counter_ns() - end)
