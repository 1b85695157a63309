"""Where a run ran: versions and machine, in environment.json of its folder."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from fastpipe.system.machine import processor_name, this_machine
from fastpipe.system.output import version as own_version

ENVIRONMENT = "environment.json"
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")


def environment_record(device: torch.device, processes: int) -> dict[str, Any]:
    """Versions of what decides about numbers and speed, the machine, and how many processes trained."""
    machine = this_machine()
    return {
        "fastpipe": own_version(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "system": platform.platform(),
        "cpu": processor_name(),
        "cpus_usable": machine.cpus,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processes": processes,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
