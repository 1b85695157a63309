"""The clock inside a process that makes batches: own time of each stage, by a stack of calls.

Outside an observed batch every hook is one test and the original call.
"""

from __future__ import annotations

import functools
import mmap
import os
import threading
import time
from collections.abc import Callable, Sized
from pathlib import Path
from statistics import median
from typing import Any

from fastpipe.profiling.observe.records import Batch, StageCost, Writer

__all__ = ["BATCH", "Control", "Recorder", "count_samples", "raw", "timed"]

BATCH = "batch"
# Of a batch's time. The rest of the 2 % that observing may cost is for records and the main process.
_HOOK_SHARE = 0.012
# So that a short run has some to show, where hooks cost more than a third of the batches they time.
_MOST_SKIPPED = 30
_MARK = "_fastpipe_original"


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


class _Calls:
    """The stages of the batch that this thread makes."""

    __slots__ = ("hooks", "inner_cpu", "inner_wall", "samples", "spans", "totals")

    def __init__(self, spans: bool) -> None:
        self.inner_wall = self.inner_cpu = self.samples = 0
        self.hooks: list[int] = []
        # Per stage: own wall and own CPU of each call, ns.
        self.totals: dict[str, tuple[list[int], list[int]]] = {}
        self.spans: list[tuple[str, int, int]] | None = [] if spans else None

    def measure(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # Reading the CPU clock is a system call, 3 us in a sandbox and a chance to lose the CPU: the hook is
        # timed from here to its end, and counts neither for this stage nor for the one around it.
        entered = time.perf_counter_ns()
        outer_wall, outer_cpu = self.inner_wall, self.inner_cpu
        self.inner_wall = self.inner_cpu = 0
        cpu_start = time.thread_time_ns()
        start = time.perf_counter_ns()
        try:
            return call(*args, **kwargs)
        finally:
            wall = time.perf_counter_ns() - start
            cpu = time.thread_time_ns() - cpu_start
            total = self.totals.get(name)
            if total is None:
                total = self.totals[name] = ([], [])
            total[0].append(wall - self.inner_wall)
            total[1].append(cpu - self.inner_cpu)
            if self.spans is not None:
                self.spans.append((name, start, wall))
            whole = time.perf_counter_ns() - entered
            self.hooks.append(whole - wall)
            self.inner_wall, self.inner_cpu = outer_wall + whole, outer_cpu + cpu


class _Thread(threading.local):
    calls: _Calls | None = None


_thread = _Thread()


def timed(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """`original`, timed as the stage `name` while this thread makes an observed batch."""

    @functools.wraps(original)
    def observed(*args: Any, **kwargs: Any) -> Any:
        calls = _thread.calls
        if calls is None:
            return original(*args, **kwargs)
        return calls.measure(name, original, args, kwargs)

    setattr(observed, _MARK, original)
    return observed


def raw(function: Any) -> Any:
    """The function behind `timed`, or the function itself."""
    return getattr(function, _MARK, function)


class Recorder:
    """Observes the batches of one process and writes them down.

    After a batch whose hooks cost more than 1.2 % of its time, so many pass untimed that it is 1.2 % of all,
    but at most 30.
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
        return not self._control.over and _thread.calls is None and os.getpid() == self.pid

    def observe(self, fetch: Callable[[Any, Any], Any], fetcher: Any, index: Any, loader: int) -> Any:
        """`fetch(fetcher, index)`, written down if it returns."""
        if self._debt > 0:
            start = time.perf_counter_ns()
            try:
                return fetch(fetcher, index)
            finally:
                self._debt -= _HOOK_SHARE * (time.perf_counter_ns() - start)
        calls = _thread.calls = _Calls(self._spans)
        cpu_start, start = time.thread_time_ns(), time.perf_counter_ns()
        try:
            data = calls.measure("dataset", fetch, (fetcher, index), {})
        finally:
            _thread.calls = None
        wall, cpu = time.perf_counter_ns() - start, time.thread_time_ns() - cpu_start
        samples = len(index) if fetcher.auto_collation and isinstance(index, Sized) else 1
        self._keep(calls, loader, start, wall, cpu, calls.samples or samples)
        self._debt = min(
            max(0.0, _typical(calls.hooks) - _HOOK_SHARE * wall), _MOST_SKIPPED * _HOOK_SHARE * wall
        )
        return data

    def _keep(self, calls: _Calls, loader: int, start: int, wall: int, cpu: int, samples: int) -> None:
        stages = {
            name: StageCost(calls=len(walls), wall=sum(walls), cpu=sum(cpus), off=_off_cpu(walls, cpus))
            for name, (walls, cpus) in calls.totals.items()
        }
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


def count_samples(num: int) -> None:
    """Say how many samples the batch of this thread has, where its index does not."""
    if _thread.calls is not None:
        _thread.calls.samples = num
