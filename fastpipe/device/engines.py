"""Engines: the same drawn parameters applied by numba on the CPU, or by plain torch on any device.

Both take uint8 [B,H,W,3] and give [B,3,H,W], of another size after ColOut and Resize; on the CPU their
bytes are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.device.draw import Params
from fastpipe.device.policies import OpParams
from fastpipe.device.recycle import Recycler
from fastpipe.device.resizing import settle_resize
from fastpipe.errors import ArgumentError

if TYPE_CHECKING:
    from fastpipe.kernels import Operations

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
    "why_not_fused",
]

EngineName = Literal["fused", "torch", "kornia", "none"]
ENGINES: tuple[EngineName, ...] = ("fused", "torch", "kornia", "none")


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
        """What runs before the copy to the device: uint8 [B,H,W,3] in and out.

        Either the operations of a policy with the flip, or nothing, where `finish` does them.
        """

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """What `augment` left of flip and policy, ColOut, resize, table, erasing, mixing, cast, layout."""


def augment_on_cpu(images: torch.Tensor, params: Params) -> torch.Tensor:
    """Each image its own operations, flipped first, bit-exact to Pillow; the input is left as it is.

    What a decoder left on a GPU comes to the CPU for it.
    """
    from fastpipe import kernels

    ops = params.ops
    if ops is None:
        raise ArgumentError("params.ops must hold the drawn operations. Found: None")
    flip = None if params.flip is None else params.flip.astype(np.uint8)
    result: torch.Tensor = kernels.augment_batch(
        images.cpu(), ops.ops, ops.values, ops.matrices, ops.fills, ops.interpolations, flip=flip
    )
    return result


def _flip_left(params: Params) -> npt.NDArray[np.bool_] | None:
    """The flips that `finish` still has to do."""
    return params.flip if params.ops is None else None


_Picks = tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]


def _picks(params: Params) -> _Picks:
    """The rows and columns that ColOut left."""
    return (None, None) if params.colout is None else (params.colout.rows, params.colout.columns)


class FusedEngine:
    """numba on the CPU, without the GIL: operations, flip, ColOut, table, mixing, cast and layout at once.

    Image by image, so that nothing but the result leaves the processor's cache. Results are written into
    memory of earlier batches that the caller has let go.
    """

    def __init__(self) -> None:
        self._memory = Recycler()

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """The images as they are: the operations run in `finish`, image by image."""
        return images

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Operations and everything after them, in one pass; erasing, and CutMix's box, once more."""
        from fastpipe import kernels

        if params.ops is not None and _several_passes(params):
            # Each of them would repeat the operations.
            images, params = augment_on_cpu(images, params), replace(params, ops=None, flip=None)
        images, params = settle_resize(images, params)
        mix, erasing = params.mix, params.erasing
        operations = None if params.ops is None else _operations(params.ops)
        num, height, width = images.shape[:3]
        if params.colout is not None:
            height, width = len(params.colout.rows), len(params.colout.columns)
        out = self._memory.empty((num, 3, height, width), output.dtype, output.memory_format)
        rows, columns = _picks(params)
        if mix is None or mix.region is not None:
            kernels.finish(
                images,
                out,
                output.table,
                flip=params.flip,
                rows=rows,
                columns=columns,
                operations=operations,
            )
            if erasing is not None:
                kernels.erase(out, erasing.boxes, np.asarray(erasing.value), erasing.apply)
        if mix is not None:
            kernels.mix(
                images,
                out,
                _float_table(output),
                mix.partner,
                mix.pixel_weight,
                region=mix.region,
                flip=params.flip,
                rows=rows,
                columns=columns,
                boxes=None if erasing is None else erasing.boxes,
                values=(0.0, 0.0, 0.0) if erasing is None else erasing.value,
                apply=None if erasing is None else erasing.apply,
                operations=operations,
            )
        return out


def _several_passes(params: Params) -> bool:
    """Whether `finish` cannot take each image through everything at once."""
    if params.resize is not None and params.resize.interpolation == "bilinear":
        return True
    return params.mix is not None and (params.mix.region is not None or params.erasing is not None)


def _operations(ops: OpParams) -> Operations:
    from fastpipe import kernels

    return kernels.Operations(ops.ops, ops.values, ops.matrices, ops.fills, ops.interpolations)


def _float_table(output: Output) -> torch.Tensor:
    if output.table is None:
        raise ArgumentError("MixUp and CutMix need a float pipeline. Found: uint8. Add ToFloat() before them")
    return output.table


class TorchEngine:
    """Plain torch operations: any device, no compilation. Policy operations run before the transfer."""

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """Policy operations on the CPU (part of the host's work)."""
        return augment_on_cpu(images, params)

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Gather, cast and lay out with torch's own kernels, on the device of `images`."""
        from fastpipe.kernels import reference

        images, params = settle_resize(images, params)
        mix = params.mix
        dtype = output.dtype if mix is None else torch.float32
        table = output.table if mix is None else _float_table(output)
        out = reference.finish_torch(
            images, dtype, table, _flip_left(params), output.memory_format, *_picks(params)
        )
        if params.erasing is not None:
            erasing = params.erasing
            out = reference.erase_torch(out, erasing.boxes, np.asarray(erasing.value), erasing.apply)
        if mix is not None:
            out = reference.mix_torch(out, mix.partner, mix.pixel_weight, mix.region)
            out = out.to(output.dtype).contiguous(memory_format=output.memory_format)
        return out


def make_engine(name: EngineName, device: torch.device) -> Engine:
    """The engine of this name for this device; torch's where `fused` cannot run (`why_not_fused`).

    Raises MissingExtraError for `kornia` without kornia.
    """
    if name not in ENGINES:
        allowed = ", ".join(repr(engine) for engine in ENGINES)
        raise ArgumentError(f"engine must be one of {allowed}. Found: {name!r}")
    if name == "kornia":
        from fastpipe.device.kornia import KorniaEngine

        return KorniaEngine()
    if name != "fused" or why_not_fused(device):
        return TorchEngine()
    if device.type == "cpu":
        return FusedEngine()
    from fastpipe.device.cuda import CudaEngine

    return CudaEngine(device)


def why_not_fused(device: torch.device) -> str:
    """Why torch serves on `device` for engine="fused", so far as is known; empty where fused does."""
    if device.type == "cpu":
        return ""
    if device.type != "cuda":
        return f"fused runs on the CPU and on NVIDIA GPUs, not on {device.type}"
    if torch.version.hip is not None:
        return "fused runs on NVIDIA GPUs, and this torch is built for AMD's (ROCm)"
    from fastpipe.device.cuda import missing_for_cuda
    from fastpipe.device.cuda_trust import known_doubt

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
