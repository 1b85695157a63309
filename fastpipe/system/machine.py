"""The part of this machine that this process may use, and the number of workers for it."""

from __future__ import annotations

import math
import platform
from pathlib import Path
from typing import Final

import torch

from fastpipe.system.cgroups import usable_cpus
from fastpipe.types import Machine

__all__ = ["MOST_OF_A_COMMAND", "processor_name", "this_machine", "worker_count"]

_MOST_WORKERS: Final = 16  # SPDL measured 1648 images/s with 16 torch workers and 1206 with 32
MOST_OF_A_COMMAND: Final = 8
"""The most that `fastpipe-train` and `fastpipe-profile` take by default."""


def worker_count(cpus: float, local_ranks: int = 1, *, most: int = _MOST_WORKERS) -> int:
    """What num_workers="auto" means: this rank's share of the CPUs, 1 to `most`."""
    return max(1, min(most, int(cpus / max(local_ranks, 1))))


def this_machine() -> Machine:
    """The resources that this process may use."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name = torch.cuda.get_device_name(0) if devices else ""
    return Machine(cpus=math.floor(usable_cpus() * 100) / 100, cuda_devices=devices, cuda_name=name)


def processor_name(cpuinfo: str = "/proc/cpuinfo") -> str:
    """The CPU's name, from `cpuinfo` where that file has one."""
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()
