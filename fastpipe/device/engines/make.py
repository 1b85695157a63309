"""The engine that serves a name on a device, and the reason if it is another one."""

from __future__ import annotations

import torch

from fastpipe.device.engines.eager import TorchEngine
from fastpipe.device.engines.fused import FusedEngine
from fastpipe.device.engines.protocol import (
    ENGINES,
    Engine,
    EngineName,
)
from fastpipe.errors import ArgumentError

__all__ = ["engine_note"]


def make_engine(name: EngineName, device: torch.device) -> Engine:
    """The engine of this name for this device; torch's if `fused` cannot run (`why_not_fused`).

    Raises MissingExtraError for `kornia` without kornia.
    """
    if name not in ENGINES:
        allowed = ", ".join(repr(engine) for engine in ENGINES)
        raise ArgumentError(f"engine must be one of {allowed}. Found: {name!r}")
    if name == "kornia":
        from fastpipe.device.engines.kornia import KorniaEngine

        return KorniaEngine()
    if name != "fused" or why_not_fused(device):
        return TorchEngine()
    if device.type == "cpu":
        return FusedEngine()
    from fastpipe.device.engines.cuda import CudaEngine

    return CudaEngine(device)


def why_not_fused(device: torch.device) -> str:
    """The known reason why torch serves on `device` for engine="fused"; empty if fused serves."""
    if device.type == "cpu":
        return ""
    if device.type != "cuda":
        return f"fused runs on the CPU and on NVIDIA GPUs, not on {device.type}"
    if torch.version.hip is not None:
        return "fused runs on NVIDIA GPUs, and this torch is built for AMD's (ROCm)"
    from fastpipe.device.engines.cuda import missing_for_cuda
    from fastpipe.device.engines.cuda_trust import known_doubt

    remedy = missing_for_cuda()
    if remedy is not None:
        return f"fused on CUDA needs: {remedy}"
    found = known_doubt(device)
    return f"fused {found}" if found else ""


def engine_note(name: EngineName, device: torch.device) -> str:
    """Which engine serves, in words, and what to install for a faster one."""
    if name == "kornia":
        return "kornia (its own brightness, contrast, color and warp borders: not Pillow's pixels)"
    reason = why_not_fused(device) if name == "fused" else ""
    return f"torch ({reason})" if reason else name
