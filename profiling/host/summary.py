"""The machine of the measurements, as plain values."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import PIL
import PIL.features
import psutil
import torch
import torchvision

from fastpipe import __version__
from fastpipe.profiling.measure.timing import cpu_seconds
from fastpipe.system.cgroups import usable_cpus
from fastpipe.system.machine import processor_name


def describe_host() -> dict[str, Any]:
    """CPU, GPU and versions. `gpu` is None where torch finds no CUDA device."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    turbo = PIL.features.version_feature("libjpeg_turbo")
    jpeg = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {PIL.features.version('jpg')}"
    return {
        "cpu": processor_name(),
        "cpus_usable": usable_cpus(),
        "cpus_online": os.cpu_count() or 1,
        "gpu": gpu,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "fastpipe": __version__,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "pillow": PIL.__version__,
        "jpeg": jpeg,
    }


class OtherLoad:
    """The share of the machine's CPUs that other processes take from now on."""

    def __init__(self) -> None:
        self._wall_s, self._busy_s, self._own_s = time.perf_counter(), _busy_seconds(), cpu_seconds()

    def share(self) -> float:
        """Their share of all CPUs, 0..1, since the start."""
        wall_s = time.perf_counter() - self._wall_s
        others_s = (_busy_seconds() - self._busy_s) - (cpu_seconds() - self._own_s)
        return min(1.0, max(0.0, others_s / (max(wall_s, 1e-9) * (os.cpu_count() or 1))))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    # Linux counts guests in user, and only Linux knows steal: what the hypervisor gave to others.
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, name, 0.0)) for name in names)
