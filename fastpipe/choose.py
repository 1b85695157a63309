"""Which backend serves a plan on this machine, why, and why not the others. Pure but for the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from fastpipe.backends.base import Backend, Numerics
from fastpipe.backends.registry import BACKENDS, load
from fastpipe.errors import BackendError
from fastpipe.types import Choice, Machine, Plan

__all__ = ["choose", "refusal", "this_machine", "usable_cpus"]


def usable_cpus() -> float:
    """CPUs that affinity and the cgroup v2 quota leave to this process; can be a fraction."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else min(count, int(quota) / int(period))


def this_machine() -> Machine:
    """What this process may use."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name = torch.cuda.get_device_name(0) if devices else ""
    return Machine(cpus=math.floor(usable_cpus() * 100) / 100, cuda_devices=devices, cuda_name=name)


def choose(plan: Plan, machine: Machine, *, asked: str, numerics: Numerics, storage: str) -> Choice:
    """The backend asked for, or with "auto" the first that can serve the plan exactly as asked.

    BackendError when the one asked for cannot, or when none can; it says why and how to change it.
    """
    names = list(BACKENDS) if asked == "auto" else [asked]
    rejected: dict[str, str] = {}
    for name in names:
        backend = load(name)
        reason = refusal(backend, plan, machine, numerics=numerics, storage=storage)
        if reason is None:
            support = backend.supports(plan)
            why = "asked for" if asked != "auto" else support.reason
            if asked != "auto" and support.answer == "yes_but":
                why = f"asked for; {support.reason}"
            return Choice(backend=name, reason=why, rejected=rejected)
        rejected[name] = reason
    reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected.items())
    raise BackendError(f"no backend can serve this plan. {reasons}")


def refusal(
    backend: Backend, plan: Plan, machine: Machine, *, numerics: Numerics, storage: str
) -> str | None:
    """Why this backend cannot serve the plan here, or None if it can."""
    capabilities = backend.capabilities
    if storage not in capabilities.storage:
        return f"reads {', '.join(capabilities.storage)}, not {storage}"
    if numerics not in capabilities.numerics:
        return f"does not keep numerics={numerics!r}"
    if plan.host and not capabilities.host_steps:
        return "cannot run the steps that stay on the workers"
    available = backend.probe(machine)
    if not available.ok:
        return f"{available.reason}; {available.remedy}" if available.remedy else available.reason
    support = backend.supports(plan)
    return support.reason if support.answer == "no" else None
