"""The stages of the batch that a thread makes: the own time of each, from a stack of calls.

Outside an observed batch every hook is one test and the original call.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

_MARK = "_fastpipe_original"


class Calls:
    """The stages of the batch that this thread makes."""

    __slots__ = ("hooks", "inner_cpu", "inner_wall", "open", "samples", "spans", "totals")

    def __init__(self, spans: bool) -> None:
        self.inner_wall = self.inner_cpu = self.samples = 0
        self.hooks: list[int] = []
        self.open: list[str] = []  # stages that have begun and not ended, the outermost first
        # Per stage: own wall and own CPU of each call, ns.
        self.totals: dict[str, tuple[list[int], list[int]]] = {}
        self.spans: list[tuple[str, int, int]] | None = [] if spans else None

    def measure(self, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The result of `call`; its own time counts for the stage `name`."""
        # Reading the CPU clock is a system call, 3 us in a sandbox and a chance to lose the CPU: the hook is
        # timed from here to its end, and counts neither for this stage nor for the one around it.
        entered = time.perf_counter_ns()
        outer_wall, outer_cpu = self.inner_wall, self.inner_cpu
        self.inner_wall = self.inner_cpu = 0
        self.open.append(name)
        cpu_start = time.thread_time_ns()
        start = time.perf_counter_ns()
        try:
            return call(*args, **kwargs)
        finally:
            wall = time.perf_counter_ns() - start
            cpu = time.thread_time_ns() - cpu_start
            self.open.pop()
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

    def move(self, name: str, seconds: Mapping[str, float]) -> None:
        """Count parts of the last call of the stage `name` for other stages: what the call itself measured.

        A part's CPU time is its share of the call's: native code reads one clock only.
        """
        walls, cpus = self.totals[name]
        wall, cpu = walls[-1], cpus[-1]
        for part, passed in seconds.items():
            own = min(int(passed * 1e9), walls[-1])
            own_cpu = cpu * own // max(wall, 1)
            walls[-1] -= own
            cpus[-1] -= own_cpu
            total = self.totals.setdefault(part, ([], []))
            total[0].append(own)
            total[1].append(own_cpu)

    def on_threads(self, each: Callable[..., Any], function: Callable[[Any], Any], items: Any) -> Any:
        """`each(function, items)`, which may run on other threads: their work counts for this batch.

        Waiting for them counts for no stage; the function's own time counts as the batch's root.
        """
        lock, root, here = threading.Lock(), self.open[0], False

        def one(item: Any) -> Any:
            nonlocal here
            if _thread.calls is self:
                here = True
                return function(item)
            calls = _thread.calls = Calls(self.spans is not None)
            try:
                return calls.measure(root, function, (item,), {})
            finally:
                _thread.calls = None
                with lock:
                    self.add(calls)

        start, cpu_start = time.perf_counter_ns(), time.thread_time_ns()
        try:
            return each(one, items)
        finally:
            if not here:
                self.inner_wall += time.perf_counter_ns() - start
                self.inner_cpu += time.thread_time_ns() - cpu_start

    def add(self, other: Calls) -> None:
        """Count what another thread did for this batch."""
        for name, (walls, cpus) in other.totals.items():
            total = self.totals.setdefault(name, ([], []))
            total[0].extend(walls)
            total[1].extend(cpus)
        self.hooks.extend(other.hooks)
        if self.spans is not None and other.spans is not None:
            self.spans.extend(other.spans)


class _Thread(threading.local):
    calls: Calls | None = None


_thread = _Thread()


def current() -> Calls | None:
    """The stages of the batch that this thread makes, if it is being observed."""
    return _thread.calls


def begin(*, spans: bool) -> Calls:
    """Time the work of this thread from now until `end`."""
    _thread.calls = Calls(spans)
    return _thread.calls


def end() -> None:
    """Hooks of this thread only call their original again."""
    _thread.calls = None


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


def count_samples(num: int) -> None:
    """Set the number of samples in this thread's batch, if its index does not tell."""
    if _thread.calls is not None:
        _thread.calls.samples = num


def marked(observed: Any, original: Any) -> Any:
    """`observed`, known as a hook around `original`."""
    setattr(observed, _MARK, original)
    observed.__wrapped__ = original
    return observed
