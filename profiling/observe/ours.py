"""Hooks for fastpipe's own loader: the loader of a batch, and the backends without worker processes.

The worker processes of fastpipe's loader are torch's, so `StageHooks` sees their batches. This module covers
the parts that torch does not run: threads of FFCV and turbo, DALI's threads, and the device stage.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastpipe
from fastpipe.backends import registry
from fastpipe.device import DeviceStage
from fastpipe.profiling.observe.calls import marked, raw
from fastpipe.profiling.observe.ours_dali import DaliHooks
from fastpipe.profiling.observe.ours_turbo import hook_turbo
from fastpipe.profiling.observe.patches import Patches
from fastpipe.profiling.observe.recorder import Control, Recorder
from fastpipe.profiling.observe.stages import ASSEMBLY, StageHooks, size_of

DevicePass = tuple[int | None, int, int, int, int]
"""One pass of a device stage: its loader (None: not known), start, wall and CPU in ns, images."""


class _Making(threading.local):
    number: int | None = None  # of the loader whose iter() runs in this thread


class _Own(threading.local):
    recorder: Recorder | None = None  # of this thread


class OwnHooks:
    """Installed in the main process, in addition to the hooks for torch.

    begun: called with a loader, its iterator and the time of the request. number_of: the number of a loader.
    """

    def __init__(
        self,
        folder: Path,
        control: Control,
        stages: StageHooks,
        *,
        spans: bool,
        number_of: Callable[[Any], int],
        begun: Callable[[Any, Any, int], None],
    ) -> None:
        self._folder, self._control, self._stages, self._spans = folder, control, stages, spans
        self._number_of, self._begun = number_of, begun
        self.device: list[DevicePass] = []
        self._patches = Patches()
        self._making = _Making()
        self._own = _Own()
        self._num_threads = 0
        self._numbers: dict[int, int] = {}  # of loaders, by the id of their data set, as last begun
        self._device_stages: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._dali = DaliHooks(control, number_of=self.number_of_data, recorder_of=self._recorder)
        self._lock = threading.Lock()

    @property
    def making(self) -> int | None:
        """The loader of fastpipe's whose iter() runs in this thread."""
        return self._making.number

    def install(self) -> None:
        """Observe every loader of fastpipe's from now on."""
        set_ = self._patches.set
        set_(fastpipe.DataLoader, "__iter__", self._observed_iter(fastpipe.DataLoader.__iter__))
        set_(DeviceStage, "__init__", self._observed_making(DeviceStage.__init__))
        set_(DeviceStage, "__call__", self._observed_device(DeviceStage.__call__))
        set_(registry, "load", self._observed_load(registry.load))

    def undo(self) -> None:
        """Take the hooks out."""
        self._patches.undo()

    def number_of_data(self, dataset: Any) -> int | None:
        """The loader that serves this data set."""
        return self._numbers.get(id(dataset))

    def _observed_iter(self, original: Any) -> Any:
        def iterate(loader: Any) -> Any:
            if self._control.over:
                return original(loader)
            began = time.perf_counter_ns()
            outer, self._making.number = self._making.number, self._number_of(loader)
            try:
                iterator = original(loader)
            finally:
                number, self._making.number = self._making.number, outer
            # Not earlier: the batches that a choice of backends measures are not the loader's.
            self._numbers[id(loader.dataset)] = number
            self._begun(loader, iterator, began)
            return iterator

        return iterate

    def _observed_load(self, original: Any) -> Any:
        """A backend is imported here, at its first use."""

        def load(name: str) -> Any:
            backend = original(name)
            if not self._control.over:
                self._stages.hook_decoders()
                self._hook_backends()
            return backend

        return load

    def _hook_backends(self) -> None:
        for name in ("ffcv", "turbo"):
            work = getattr(sys.modules.get(f"fastpipe.backends.{name}.batch"), "BatchWork", None)
            if work is not None and raw(work.__call__) is work.__call__:
                self._patches.set(work, "__call__", marked(self._observed_work(work.__call__), work.__call__))
        hook_turbo(self._patches)
        if not self._dali.installed:
            self._dali.install(self._patches)

    def _recorder(self, number: int) -> Recorder:
        """One for each thread, because their records would mix."""
        found = self._own.recorder
        if found is None:
            with self._lock:
                worker, self._num_threads = self._num_threads, self._num_threads + 1
            found = Recorder(self._folder, self._control, loader=-1, worker=worker, spans=self._spans)
            self._own.recorder = found
        found.loader = number
        return found

    def _observed_work(self, original: Any) -> Any:
        def make(work: Any, request: Any, *args: Any) -> Any:
            number = None if self._control.over else self.number_of_data(work.dataset)
            if number is None or not (recorder := self._recorder(number)).wants():
                return original(work, request, *args)
            self._stages.hook_decoders()
            return recorder.observe(
                lambda: original(work, request, *args),
                loader=number,
                root=ASSEMBLY,
                count=lambda data: size_of(data, request, batched=True),
            )

        return make

    def _observed_making(self, original: Any) -> Any:
        def init(stage: Any, *args: Any, **kwargs: Any) -> None:
            original(stage, *args, **kwargs)
            if self._making.number is not None:
                self._device_stages[stage] = self._making.number

        return marked(init, original)

    def _observed_device(self, original: Any) -> Any:
        def run(stage: Any, host: Any) -> Any:
            if self._control.over:
                return original(stage, host)
            cpu, start = time.thread_time_ns(), time.perf_counter_ns()
            batch = original(stage, host)
            wall = time.perf_counter_ns() - start
            number = self._device_stages.get(stage)
            self.device.append((number, start, wall, time.thread_time_ns() - cpu, len(host.images)))
            return batch

        return run
