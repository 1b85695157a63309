"""Observes and records the batches of a process or thread, as many as 1.2 % of their time allows."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from fastpipe.profiling.observe.calls import Calls, begin, current, end
from fastpipe.profiling.observe.records import Batch, StageCost, Writer

BATCH = "batch"
# Of a batch's time. The rest of the 2 % that observing may cost is for records and the main process.
_HOOK_SHARE = 0.012
# So that a short run has timed batches even if hooks cost more than a third of the time.
_MOST_SKIPPED = 30


class Control:
    """One byte shared by all processes of a run: 0 while observing, 1 when it is over."""

    def __init__(self, folder: Path) -> None:
        path = folder / "control"
        if not path.exists():
            path.write_bytes(b"\0")
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 1)

    @property
    def over(self) -> bool:
        """Whether `finish` was called, in whichever process."""
        return self._memory[0] != 0

    def finish(self) -> None:
        """Tell every process to stop observing."""
        self._memory[0] = 1


class Recorder:
    """Observes and records the batches of one process.

    If the hooks of a batch cost more than 1.2 % of its time, the next batches stay untimed until the cost is
    1.2 % of all, but at most 30 batches.
    """

    def __init__(self, folder: Path, control: Control, *, loader: int, worker: int, spans: bool) -> None:
        self.pid = os.getpid()
        self.loader = loader
        self.writer = Writer(folder, loader, worker)
        self._control = control
        self._spans = spans
        self._debt = 0.0

    @property
    def over(self) -> bool:
        """Whether the main process has stopped observing."""
        return self._control.over

    def wants(self) -> bool:
        """Whether the batch that begins now is to be observed: not inside another, nor in a fork of ours."""
        return not self._control.over and current() is None and os.getpid() == self.pid

    @property
    def timing(self) -> bool:
        """Whether the next batch will be timed: not all are, see the class."""
        return self._debt <= 0

    def observe(
        self,
        make: Callable[[], Any],
        *,
        loader: int,
        root: str,
        count: Callable[[Any], int],
        more: Callable[[int], dict[str, StageCost]] = lambda samples: {},
    ) -> Any:
        """The batch that `make` returns; it is recorded.

        root: the stage for time outside all other stages. count: the number of samples in the batch, if
        `count_samples` was not called. more: stages timed elsewhere, given that number.
        """
        if self._debt > 0:
            start = time.perf_counter_ns()
            try:
                return make()
            finally:
                self._debt -= _HOOK_SHARE * (time.perf_counter_ns() - start)
        calls = begin(spans=self._spans)
        cpu_start, start = time.thread_time_ns(), time.perf_counter_ns()
        try:
            data = calls.measure(root, make, (), {})
        finally:
            end()
        wall, cpu = time.perf_counter_ns() - start, time.thread_time_ns() - cpu_start
        samples = calls.samples or count(data)
        self._keep(calls, loader, start, wall, cpu, samples, more(samples))
        self._debt = min(
            max(0.0, _typical(calls.hooks) - _HOOK_SHARE * wall), _MOST_SKIPPED * _HOOK_SHARE * wall
        )
        return data

    def _keep(
        self,
        calls: Calls,
        loader: int,
        start: int,
        wall: int,
        cpu: int,
        samples: int,
        more: dict[str, StageCost],
    ) -> None:
        stages = {
            name: StageCost(calls=len(walls), wall=sum(walls), cpu=sum(cpus), off=_off_cpu(walls, cpus))
            for name, (walls, cpus) in calls.totals.items()
        }
        for name, cost in more.items():
            stages[name] = cost if name not in stages else stages[name].plus(cost)
        batch = Batch(
            loader=loader,
            start=start,
            wall=wall,
            cpu=cpu,
            samples=samples,
            hooks=_typical(calls.hooks),
            stages=stages,
        )
        spans = calls.spans or []
        self.writer.batch(batch, [(BATCH, start, wall), *spans] if calls.spans is not None else spans)


def _typical(hooks: list[int]) -> int:
    """What these calls of hooks cost, ns: by their median, as some lose the CPU meanwhile."""
    return int(median(hooks) * len(hooks)) if hooks else 0


def _off_cpu(walls: list[int], cpus: list[int]) -> int:
    """The median over calls of the time without a CPU, ns: a sleep is in each, losing the CPU is not."""
    return max(0, int(median(wall - cpu for wall, cpu in zip(walls, cpus, strict=True))))
