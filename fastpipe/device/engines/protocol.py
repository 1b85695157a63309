"""The protocol of an engine: it applies drawn parameters to a batch, in two calls around the copy.

All take uint8 [B,H,W,3] and give [B,3,H,W], of another size after ColOut and Resize.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.device.draws.draw import Params
from fastpipe.errors import ArgumentError

__all__ = ["ENGINES", "EngineName"]

EngineName = Literal["fused", "torch", "kornia", "none"]


ENGINES: tuple[EngineName, ...] = ("fused", "torch", "kornia", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The form of the output. `table` is float32 [3,256], or None for the uint8 levels themselves."""

    dtype: torch.dtype
    memory_format: torch.memory_format
    table: torch.Tensor | None

    def empty(self, num: int, height: int, width: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """An uninitialised [num, 3, height, width] tensor in the asked dtype and layout."""
        return torch.empty(
            (num, 3, height, width), dtype=self.dtype, device=device, memory_format=self.memory_format
        )


LEVELS = Output(dtype=torch.uint8, memory_format=torch.channels_last, table=None)
"""A batch between two passes: uint8 [B,3,h,w] whose memory is that of [B,h,w,3]."""


class Engine(Protocol):
    """Applies drawn parameters to a batch, except `params.passes`; for those see `finish_batch`."""

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """The part before the copy to the device: uint8 [B,H,W,3] in and out.

        Either the operations of a policy with the flip, or nothing if `finish` does them.
        """

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """The rest of flip and policy, then ColOut, resize, table, erasing, mixing, cast, layout."""


def finish_batch(engine: Engine, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
    """`engine.finish`, with the passes between levels and values that no engine has itself.

    Steps that change levels or size come before them, on a uint8 batch; table, erasing and mixing come after.
    """
    if not params.passes:
        return engine.finish(images, params, output)
    before = replace(params, passes=(), erasing=None, mix=None)
    images = engine.finish(images, before, LEVELS).permute(0, 2, 3, 1)
    for one in params.passes:
        images = one(images).contiguous()
    return engine.finish(images, Params(erasing=params.erasing, mix=params.mix), output)


def augment_on_cpu(images: torch.Tensor, params: Params) -> torch.Tensor:
    """Each image with its own operations, flipped first, bit-exact to Pillow; the input is unchanged.

    Images that a decoder left on a GPU are copied to the CPU for it.
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


def flip_left(params: Params) -> npt.NDArray[np.bool_] | None:
    """The flips that `finish` still has to do."""
    return params.flip if params.ops is None else None


Picks = tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]


def picks(params: Params) -> Picks:
    """The rows and columns that ColOut left."""
    return (None, None) if params.colout is None else (params.colout.rows, params.colout.columns)


def float_table(output: Output) -> torch.Tensor:
    """The table of values, for mixing. Raises ArgumentError for a pipeline of uint8."""
    if output.table is None:
        raise ArgumentError("MixUp and CutMix need a float pipeline. Found: uint8. Add ToFloat() before them")
    return output.table
