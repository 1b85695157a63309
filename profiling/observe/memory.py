"""Memory of loader workers and of /dev/shm; bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One worker. pss counts a page shared by n processes as 1/n; None if the kernel does not report it."""

    pid: int
    loader: int
    rss: int
    pss: int | None


def measure_workers(pids: dict[int, int]) -> list[Memory]:
    """The memory of each living process; `pids` maps a process to the number of its loader."""
    found = []
    for pid, loader in pids.items():
        try:
            process = psutil.Process(pid)
            rss = process.memory_info().rss
            pss = getattr(process.memory_full_info(), "pss", None)
        except psutil.Error:
            continue
        found.append(Memory(pid=pid, loader=loader, rss=rss, pss=pss))
    return found


def shm_used() -> int:
    """Used bytes of /dev/shm, over all processes of the machine; 0 if there is no /dev/shm."""
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return (status.f_blocks - status.f_bfree) * status.f_frsize
