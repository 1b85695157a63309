"""GPUs, their link to the host, and the speed of a copy from host memory."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Protocol

import torch

from fastpipe.system.proc import ROOT, number, text

_BYTES = 256 << 20
_COPIES = 7


class Cuda(Protocol):
    """The questions of the card to CUDA, as a class, so that tests can answer them."""

    def count(self) -> int:
        """Usable devices."""

    def describe(self, device: int) -> dict[str, Any]:
        """Name, memory (bytes), capability ("9.0") and PCI address ("0000:1b:00.0", or None)."""

    def copy_seconds(self, device: int, num_bytes: int, *, pinned: bool) -> float:
        """Seconds of one copy of that size from host memory."""


class TorchCuda:
    """CUDA as torch sees it."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int, bool], tuple[torch.Tensor, torch.Tensor]] = {}

    def count(self) -> int:
        """Usable devices."""
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def describe(self, device: int) -> dict[str, Any]:
        """As torch's device properties say."""
        found: Any = torch.cuda.get_device_properties(device)
        bus = getattr(found, "pci_bus_id", None)  # torch 2.6 has it; a ROCm build may not
        address = None if bus is None else f"{found.pci_domain_id:04x}:{bus:02x}:{found.pci_device_id:02x}.0"
        return {
            "name": found.name,
            "memory": found.total_memory,
            "capability": f"{found.major}.{found.minor}",
            "pci": address,
        }

    def copy_seconds(self, device: int, num_bytes: int, *, pinned: bool) -> float:
        """One copy between events; the buffers are made once."""
        key = device, num_bytes, pinned
        if key not in self._buffers:
            host = torch.ones(num_bytes, dtype=torch.uint8, pin_memory=pinned)
            self._buffers[key] = host, torch.empty_like(host, device=f"cuda:{device}")
        host, there = self._buffers[key]
        with torch.cuda.device(device):
            event: Any = torch.cuda.Event
            start, end = event(enable_timing=True), event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            there.copy_(host, non_blocking=True)
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) / 1000.0


def gpu_facts(root: Path = ROOT, cuda: Cuda | None = None, *, measuring: bool = True) -> list[dict[str, Any]]:
    """Each GPU that torch can use, with its link and copy rates in bytes/s; none without one."""
    cuda = cuda or TorchCuda()
    return [_one(root, cuda, device, measuring) for device in range(cuda.count())]


def _one(root: Path, cuda: Cuda, device: int, measuring: bool) -> dict[str, Any]:
    facts = dict(cuda.describe(device))
    facts["copy_bytes_per_s"] = (
        {name: _copy_rate(cuda, device, pinned=name == "pinned") for name in ("pinned", "pageable")}
        if measuring
        else None
    )
    # After the copies: an idle link sleeps at a lower speed.
    folder = root / "sys/bus/pci/devices" / str(facts["pci"])
    node = number(folder / "numa_node")
    facts["numa_node"] = node if node is not None and node >= 0 else None
    for name in ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width"):
        facts[name] = text(folder / name)
    return facts


def _copy_rate(cuda: Cuda, device: int, *, pinned: bool) -> dict[str, float]:
    """Median, least and most over seven copies of 256 MiB; two before them warm up."""
    for _ in range(2):
        cuda.copy_seconds(device, _BYTES, pinned=pinned)
    rates = [_BYTES / max(cuda.copy_seconds(device, _BYTES, pinned=pinned), 1e-9) for _ in range(_COPIES)]
    return {"median": statistics.median(rates), "low": min(rates), "high": max(rates)}


def gpu_notes(gpus: list[dict[str, Any]], root: Path = ROOT) -> list[str]:
    """Why no GPU is shown, or a link that is slower than the card allows."""
    present = sorted((root / "proc/driver/nvidia/gpus").glob("*"))
    if not gpus and present:
        return [
            f"{len(present)} NVIDIA GPUs are here, but torch cannot use them: no driver, or a build "
            "without CUDA?"
        ]
    if not gpus:
        return ["Copies to a GPU were not measured: no GPU."]
    return [
        f"{gpu['name']} at {gpu['pci']} runs PCIe x{gpu['current_link_width']} of x{gpu['max_link_width']}."
        for gpu in gpus
        if gpu["max_link_width"] and gpu["current_link_width"] != gpu["max_link_width"]
    ]
