"""Runs a GIL-free function over ranges of a batch on several threads.

    run_ranges(f, 10, 2):   caller  f(0,2) ......... f(4,6) f(8,10)
                            helper  f(2,4) f(6,8)                     a free thread takes the next range

The pool is made at first use and grows on demand; a forked child forgets it and makes its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

__all__ = ["run_ranges"]

MAX_THREADS = 256
# Images differ in cost (a sharpness costs ten times a table), so each thread gets about four ranges.
_RANGES_PER_THREAD = 4


class _Helpers:
    """The process's helper threads."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start empty: after a fork neither the threads nor the lock's owner exist."""
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def executor(self) -> ThreadPoolExecutor:
        """The executor of this process. It starts a thread only when none is idle."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="fastpipe-kernels")
            return self._executor


_helpers = _Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.forget)


def run_ranges(function: Callable[[int, int], None], num_items: int, num_threads: int = 1) -> None:
    """Call `function(start, stop)` so that the ranges cover 0..num_items once; return when all are done.

    One thread runs inline, in one range. The caller is one of `num_threads`. Only a `function` that releases
    the GIL gains from threads; it must write only what belongs to its range. The first exception is
    raised after all have stopped. Raises ValueError for num_threads outside 1..MAX_THREADS.
    """
    if not 1 <= num_threads <= MAX_THREADS:
        raise ValueError(f"num_threads must be in 1..{MAX_THREADS}. Found: {num_threads!r}")
    num_threads = min(num_threads, num_items)
    if num_threads <= 1:
        function(0, num_items)
        return
    ranges = _Ranges(num_items, num_threads)
    executor = _helpers.executor()
    futures = [executor.submit(_drain, function, ranges) for _ in range(num_threads - 1)]
    try:
        _drain(function, ranges)
    finally:
        # The buffers belong to the caller: no thread may write to them after this call.
        ranges.stop()
        for future in futures:
            if not future.cancel():
                future.result()


class _Ranges:
    """The ranges of one call, handed to the next thread that asks."""

    def __init__(self, num_items: int, num_threads: int) -> None:
        self._lock = threading.Lock()
        self._num_items = num_items
        self._length = -(-num_items // (num_threads * _RANGES_PER_THREAD))
        self._next = 0

    def stop(self) -> None:
        """Hand out no more."""
        with self._lock:
            self._next = self._num_items

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) until nothing is left for any thread."""
        while True:
            with self._lock:
                start = self._next
                self._next = min(start + self._length, self._num_items)
            if start >= self._num_items:
                return
            yield start, min(start + self._length, self._num_items)


def _drain(function: Callable[[int, int], None], ranges: _Ranges) -> None:
    try:
        for start, stop in ranges:
            function(start, stop)
    except BaseException:
        ranges.stop()
        raise
