"""Hooks for the backend `dali`: Python threads read files and finish images, DALI decodes in its own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from statistics import median
from typing import Any

from fastpipe.profiling.observe.calls import Calls, current, marked
from fastpipe.profiling.observe.native import NativeThreads, other_threads
from fastpipe.profiling.observe.patches import Patches
from fastpipe.profiling.observe.recorder import Control, Recorder
from fastpipe.profiling.observe.records import StageCost
from fastpipe.profiling.observe.stages import ASSEMBLY, size_of


class DaliHooks:
    """number_of: the loader that serves a data set, or None. recorder_of: this thread's, for a loader."""

    def __init__(
        self,
        control: Control,
        *,
        number_of: Callable[[Any], int | None],
        recorder_of: Callable[[int], Recorder],
    ) -> None:
        self._control, self.number_of_data, self._recorder = control, number_of, recorder_of
        self._native: dict[int, NativeThreads] = {}
        self._reads: dict[int, Calls] = {}
        self._read_costs: dict[int, tuple[float, float, float]] = {}
        self._lock = threading.Lock()
        self.installed = False

    def install(self, patches: Patches) -> None:
        """Observe the backend, once it is imported."""
        source = sys.modules.get("fastpipe.backends.dali.source")
        if source is None:
            return
        self.installed = True
        for name, observed in (("finish_batch", self._observed_finish), ("read_item", self._observed_read)):
            original = getattr(source, name)
            patches.set(source, name, marked(observed(original), original))
        patches.set(source.DaliSource, "runner", self._observed_runner(source.DaliSource.runner))

    def _observed_finish(self, original: Any) -> Any:
        def finish(prepared: Any, images: Any, graph: Any, dataset: Any, each: Any, *more: Any) -> Any:
            number = None if self._control.over else self.number_of_data(dataset)
            if number in self._native:
                self._native[number].count()
            if number is None or not (recorder := self._recorder(number)).wants():
                return original(prepared, images, graph, dataset, each, *more)

            def spread(function: Any, items: Any) -> Any:
                calls = current()
                return each(function, items) if calls is None else calls.on_threads(each, function, items)

            return recorder.observe(
                lambda: original(prepared, images, graph, dataset, spread, *more),
                loader=number,
                root=ASSEMBLY,
                count=lambda data: size_of(data, prepared.request, batched=True),
                more=lambda samples: self._done_before(number, samples),
            )

        return finish

    def _observed_read(self, original: Any) -> Any:
        """Files are read some batches ahead, so a batch counts the mean of the reads since the last one."""

        def read(dataset: Any, *args: Any) -> Any:
            number = None if self._control.over else self.number_of_data(dataset)
            if number is None or current() is not None:
                return original(dataset, *args)
            calls = Calls(spans=False)
            try:
                return calls.measure("read", original, (dataset, *args), {})
            finally:
                with self._lock:
                    self._reads.setdefault(number, Calls(spans=False)).add(calls)

        return read

    def _observed_runner(self, original: Any) -> Any:
        """DALI's pipeline starts its own threads, which Python does not know."""

        def runner(source: Any, *args: Any, **kwargs: Any) -> Any:
            before = other_threads()
            made = original(source, *args, **kwargs)
            number = self.number_of_data(source.job.dataset)
            if number is not None and not self._control.over:
                native = self._native.setdefault(number, NativeThreads())
                native.watch(other_threads() - before)
            return made

        return runner

    def _done_before(self, number: int, samples: int) -> dict[str, StageCost]:
        """Reading and DALI's decoding for a batch of the given size."""
        found = {}
        with self._lock:
            reads = self._reads.pop(number, None)
            if reads is not None and "read" in reads.totals:
                self._read_costs[number] = _mean(*reads.totals["read"])
            native = self._native.get(number)
            spent = None if native is None else native.spent()
        # All of its files may have been read before the last batch was finished.
        if number in self._read_costs:
            wall, cpu, off = self._read_costs[number]
            found["read"] = StageCost(
                calls=samples, wall=int(wall * samples), cpu=int(cpu * samples), off=int(off)
            )
        if spent is not None:
            found["decode"] = StageCost(calls=samples, wall=spent, cpu=spent, off=0)
        return found


def _mean(walls: list[int], cpus: list[int]) -> tuple[float, float, float]:
    """The mean wall and CPU time of these calls, and the median of the time without a CPU; ns."""
    off = median(max(0, wall - cpu) for wall, cpu in zip(walls, cpus, strict=True))
    return sum(walls) / len(walls), sum(cpus) / len(cpus), off
