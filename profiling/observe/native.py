"""CPU time of threads that a library started and Python does not know, on Linux; ns."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")


def other_threads() -> set[int]:
    """The ids of this process's threads that are not Python's; none if the system does not list them."""
    try:
        found = {int(name) for name in os.listdir(_TASKS)}
    except OSError:
        return set()
    return found - {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}


class NativeThreads:
    """The CPU time of some threads per batch, on average since the last query."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._batches = 0

    def watch(self, threads: set[int]) -> None:
        """These too, from now on."""
        for thread in threads:
            self._seen[thread] = _cpu_ns(thread) or 0

    def count(self) -> None:
        """A batch is done."""
        self._batches += 1

    def spent(self) -> int | None:
        """CPU time for each counted batch; None if it is unknown."""
        if not self._seen or not self._batches:
            return None
        spent = 0
        for thread, before in list(self._seen.items()):
            now = _cpu_ns(thread)
            if now is None:  # it has ended
                del self._seen[thread]
                continue
            spent += max(0, now - before)
            self._seen[thread] = now
        batches, self._batches = self._batches, 0
        return spent // batches


def _cpu_ns(thread: int) -> int | None:
    """None for a thread that has ended."""
    try:
        return int((_TASKS / str(thread) / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _by_ticks(thread)


def _by_ticks(thread: int) -> int | None:
    """For kernels without schedstat: in steps of 10 ms, which add up."""
    try:
        fields = (_TASKS / str(thread) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
