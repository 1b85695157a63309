"""Memory: RAM and its limit, shared memory for worker processes, huge pages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastpipe.system.cgroups import memory_limit
from fastpipe.system.proc import ROOT, lines, text

# Docker's default; one batch of 256 x 176 x 176 uint8 images (24 MB) takes a third of it.
_SMALL_SHM = 1 << 30


def memory_facts(
    root: Path = ROOT, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage
) -> dict[str, Any]:
    """Bytes of RAM, of its cgroup limit (None without), of /dev/shm, and the mode of huge pages."""
    known = _meminfo(root)
    limit = memory_limit(root)
    try:
        shm_total, _, shm_free = usage(root / "dev/shm")
    except OSError:
        shm_total, shm_free = None, None
    huge = re.search(r"\[(\w+)\]", text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    return {
        "total": known.get("MemTotal"),
        "available": known.get("MemAvailable"),
        "cgroup_limit": None if limit is None else limit[0],
        "cgroup_version": None if limit is None else limit[1],
        "swap": known.get("SwapTotal"),
        "shm_total": shm_total,
        "shm_free": shm_free,
        "transparent_huge_pages": huge.group(1) if huge else None,
    }


def _meminfo(root: Path) -> dict[str, int]:
    found = {}
    for line in lines(root / "proc/meminfo"):
        matched = re.match(r"(\w+):\s+(\d+) kB", line)
        if matched:
            found[matched.group(1)] = int(matched.group(2)) * 1024
    return found


def memory_notes(facts: dict[str, Any]) -> list[str]:
    """Limits that may end in a killed worker or a bus error."""
    notes = []
    limit, total, shm = facts["cgroup_limit"], facts["total"], facts["shm_free"]
    if limit is not None and total is not None and limit < total:
        notes.append(
            f"The cgroup allows {limit / 2**30:.1f} of {total / 2**30:.1f} GiB of RAM. Beyond that, "
            "processes are killed; pages of cached files count."
        )
    if facts["shm_total"] is None:
        notes.append("There is no /dev/shm: worker processes cannot hand batches over through it.")
    elif shm < _SMALL_SHM:
        notes.append(
            f"/dev/shm has {shm / 2**20:,.0f} MiB free: worker processes end with a bus error when "
            "it is full. Raise it (docker run --shm-size=8g) or lower prefetch_factor."
        )
    return notes
