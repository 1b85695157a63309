"""The CPUs: model, cores, threads, and the limits by affinity and quota."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastpipe.system.cgroups import cpu_quota
from fastpipe.system.machine import processor_name
from fastpipe.system.proc import ROOT, lines, number, span, text

_VECTORS = ("avx512f", "avx2", "sse4_2", "sve", "asimd")


def cpu_facts(root: Path = ROOT, affinity: set[int] | None = None) -> dict[str, Any]:
    """The CPUs as plain values.

    online: what nproc --all counts. cores: physical ones, None where /sys says nothing. affinity: CPUs this
    process may be scheduled on. quota: CPUs' worth of time per period, None without one. usable: the least of
    them, a fraction possible. vectors: the widest instruction sets that images are decoded with.
    """
    online = span(text(root / "sys/devices/system/cpu/online") or "") or set(range(os.cpu_count() or 1))
    allowed = _affinity() if affinity is None else affinity
    quota = cpu_quota(root)
    cores, sockets = _topology(root, online)
    usable = float(len(allowed)) if quota is None else min(float(len(allowed)), quota[0])
    return {
        "model": processor_name(str(root / "proc/cpuinfo")),
        "sockets": sockets,
        "cores": cores,
        "online": len(online),
        "threads_per_core": round(len(online) / cores, 2) if cores else None,
        "smt_active": _smt(root),
        "affinity": len(allowed),
        "quota": None if quota is None else quota[0],
        "quota_version": None if quota is None else quota[1],
        "usable": usable,
        "numa_nodes": _numa_nodes(root),
        "vectors": _vectors(root),
    }


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _topology(root: Path, online: set[int]) -> tuple[int | None, int | None]:
    """(physical cores, sockets) among the online CPUs."""
    found = set()
    for cpu in online:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        core, package = number(folder / "core_id"), number(folder / "physical_package_id")
        if core is not None and package is not None:
            found.add((package, number(folder / "die_id") or 0, core))
    return (len(found), len({package for package, _, _ in found})) if found else (None, None)


def _smt(root: Path) -> bool | None:
    active = number(root / "sys/devices/system/cpu/smt/active")
    return None if active is None else active == 1


def _numa_nodes(root: Path) -> dict[str, str]:
    """CPU list of each NUMA node that has CPUs, as the kernel writes it ("0-15,32-47")."""
    folder = root / "sys/devices/system/node"
    nodes = sorted(folder.glob("node[0-9]*"), key=lambda node: int(node.name[4:]))
    listed = ((node.name[4:], text(node / "cpulist")) for node in nodes)
    return {name: cpus for name, cpus in listed if cpus}


def _vectors(root: Path) -> list[str]:
    for line in lines(root / "proc/cpuinfo"):
        if line.startswith(("flags", "Features")):
            flags = line.partition(":")[2].split()
            return [name for name in _VECTORS if name in flags]
    return []


def cpu_notes(facts: dict[str, Any]) -> list[str]:
    """Facts that matter for the number of workers."""
    notes = []
    quota, affinity, online = facts["quota"], facts["affinity"], facts["online"]
    if quota is not None and quota < affinity:
        notes.append(
            f"The cgroup quota is {quota:g} CPUs, but nproc says {affinity}: a loader that starts one worker "
            f"per CPU of nproc is throttled. Assume {quota:g} CPUs."
        )
    if affinity < online:
        notes.append(f"Affinity leaves this process {affinity} of {online} online CPUs.")
    if facts["smt_active"] and facts["cores"] is not None:
        notes.append(
            f"{online} CPUs are {facts['cores']} cores with SMT: the second thread of a core does not make "
            "decoding twice as fast."
        )
    return notes
