"""Engines: the same drawn parameters applied by numba on the CPU, or by plain torch on any device.

Both take uint8 [B,H,W,3] and give [B,3,H,W]; on the CPU their bytes are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.device.draw import Params
from fastpipe.errors import ArgumentError

__all__ = [
    "ENGINES",
    "Engine",
    "EngineName",
    "FusedEngine",
    "Output",
    "TorchEngine",
    "augment_on_cpu",
    "engine_note",
    "make_engine",
]

EngineName = Literal["fused", "torch", "none"]
ENGINES: tuple[EngineName, ...] = ("fused", "torch", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What the stage writes. `table` is float32 [3,256], or None for the uint8 levels themselves."""

    dtype: torch.dtype
    memory_format: torch.memory_format
    table: torch.Tensor | None

    def empty(self, num: int, height: int, width: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """An uninitialised [num, 3, height, width] tensor in the asked dtype and layout."""
        return torch.empty(
            (num, 3, height, width), dtype=self.dtype, device=device, memory_format=self.memory_format
        )


class Engine(Protocol):
    """Applies drawn parameters to a batch."""

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """The uint8 operations of a policy, flip included; uint8 [B,H,W,3] in and out."""

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Flip (unless `augment` did), table, cast, layout and erasing."""


def augment_on_cpu(images: torch.Tensor, params: Params) -> torch.Tensor:
    """Each image its own operations, flipped first, bit-exact to Pillow; the input is left as it is."""
    from fastpipe import kernels

    ops = params.ops
    if ops is None:
        raise ArgumentError("params.ops must hold the drawn operations. Found: None")
    flip = None if params.flip is None else params.flip.astype(np.uint8)
    result: torch.Tensor = kernels.augment_batch(
        images, ops.ops, ops.values, ops.matrices, ops.fills, ops.interpolations, flip=flip
    )
    return result


def _flip_left(params: Params) -> npt.NDArray[np.bool_] | None:
    """The flips that `finish` still has to do."""
    return params.flip if params.ops is None else None


class FusedEngine:
    """numba on the CPU: flip, table, cast and layout in one pass, the GIL released."""

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """Policy operations on the CPU."""
        return augment_on_cpu(images, params)

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """One pass over the batch, written straight into the result."""
        from fastpipe import kernels

        out = output.empty(*images.shape[:3])
        flip = _flip_left(params)
        kernels.finish(images, out, output.table, flip=None if flip is None else flip.astype(np.uint8))
        if params.erasing is not None:
            erasing = params.erasing
            kernels.erase(out, erasing.boxes, np.asarray(erasing.value), erasing.apply)
        return out


class TorchEngine:
    """Plain torch operations: any device, no compilation. Policy operations run before the transfer."""

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """Policy operations on the CPU (part of the host's work)."""
        return augment_on_cpu(images, params)

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Gather, cast and lay out with torch's own kernels, on the device of `images`."""
        from fastpipe.kernels import reference

        flip = _flip_left(params)
        out = reference.finish_torch(images, output.dtype, output.table, flip, output.memory_format)
        if params.erasing is not None:
            erasing = params.erasing
            out = reference.erase_torch(out, erasing.boxes, np.asarray(erasing.value), erasing.apply)
        return out


def make_engine(name: EngineName, device: torch.device) -> Engine:
    """The engine of this name for this device. `fused` on CUDA needs numba-cuda; else torch serves."""
    if name not in ENGINES:
        allowed = ", ".join(repr(engine) for engine in ENGINES)
        raise ArgumentError(f"engine must be one of {allowed}. Found: {name!r}")
    if name == "fused" and device.type == "cpu":
        return FusedEngine()
    if name == "fused" and device.type == "cuda":
        from fastpipe.device.cuda import CudaEngine, missing_for_cuda

        if missing_for_cuda() is None:
            return CudaEngine(device)
    return TorchEngine()


def engine_note(name: EngineName, device: torch.device) -> str:
    """Which engine serves, in words, and what to install for a faster one."""
    if name != "fused" or device.type == "cpu":
        return name
    if device.type != "cuda":
        return f"torch (fused runs on the CPU and on CUDA, not on {device.type})"
    from fastpipe.device.cuda import missing_for_cuda

    remedy = missing_for_cuda()
    return name if remedy is None else f"torch (fused on CUDA needs: {remedy})"
