"""The limits of this process's control groups, version 1 and 2: CPUs and bytes of memory.

Files: docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max, memory.max), docs.kernel.org/scheduler/
sched-bwc.html (cpu.cfs_quota_us). Every group up to the root sets a limit, so the lowest one holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fastpipe.system.proc import ROOT, lines, number, text

__all__ = ["cpu_quota", "memory_limit", "usable_cpus"]

# Version 1 says "no limit" as the largest multiple of a page; no machine has an exbibyte.
_NO_LIMIT = 1 << 60


def cpu_quota(root: Path = ROOT) -> tuple[float, int] | None:
    """(CPUs, version of the group) that the scheduler's quota allows; None without a quota."""
    found = []
    for folder in _groups(root, None):
        quota, _, period = (text(folder / "cpu.max") or "").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            found.append((int(quota) / int(period), 2))
    for folder in _groups(root, "cpu"):
        quota_us, period_us = number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
        if quota_us is not None and period_us is not None and quota_us > 0 and period_us > 0:
            found.append((quota_us / period_us, 1))
    return min(found, default=None)


def usable_cpus(root: Path = ROOT) -> float:
    """CPUs that affinity and the cgroup quotas leave to this process; may be a fraction."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = cpu_quota(root)
    return count if quota is None else min(count, quota[0])


def memory_limit(root: Path = ROOT) -> tuple[int, int] | None:
    """(bytes, version of the group) that the processes of this group may hold; None without a limit."""
    found = [(number(folder / "memory.max"), 2) for folder in _groups(root, None)]
    found += [(number(folder / "memory.limit_in_bytes"), 1) for folder in _groups(root, "memory")]
    limits = [(limit, version) for limit, version in found if limit is not None and 0 < limit < _NO_LIMIT]
    return min(limits, default=None)


def _groups(root: Path, controller: str | None) -> Iterator[Path]:
    """The folders of this process's group and those above it; controller None is version 2."""
    own = _own_group(root, controller)
    if own is None:
        return
    base = root / "sys/fs/cgroup"
    mounts = ["", "unified"] if controller is None else _version_1_mounts(root, controller)
    # In a container the path may be the host's, which is not below the mount; the mount itself counts then.
    parts = [part for part in PurePosixPath(own).parts if part not in ("/", "..")]
    for mount in mounts:
        for depth in range(len(parts), -1, -1):
            folder = (base / mount).joinpath(*parts[:depth])
            if folder.is_dir():
                yield folder


def _own_group(root: Path, controller: str | None) -> str | None:
    for line in lines(root / "proc/self/cgroup"):
        number_of, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller is None and number_of == "0" and not controllers:
            return path
        if controller is not None and controller in controllers.split(","):
            return path
    return None


def _version_1_mounts(root: Path, controller: str) -> list[str]:
    """Names of the folders where a version 1 controller is mounted: "cpu", or "cpu,cpuacct"."""
    try:
        names = sorted(folder.name for folder in (root / "sys/fs/cgroup").iterdir())
    except OSError:
        return []
    return [name for name in names if controller in name.split(",")]
