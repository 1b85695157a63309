"""The fused engine on the CPU: numba kernels, everything of an image at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from fastpipe.device.draws.draw import Params
from fastpipe.device.draws.params import OpParams
from fastpipe.device.engines.protocol import (
    Output,
    augment_on_cpu,
    float_table,
    picks,
)
from fastpipe.device.recycle import Recycler
from fastpipe.device.resizing import settle_resize

if TYPE_CHECKING:
    from fastpipe.kernels import Operations


class FusedEngine:
    """numba on the CPU, without the GIL: operations, flip, ColOut, table, mixing, cast and layout at once.

    Image by image, so only the result leaves the processor's cache. Results are written into the memory of
    earlier batches that the caller has released.
    """

    def __init__(self) -> None:
        self._memory = Recycler()

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """The unchanged images: the operations run in `finish`, image by image."""
        return images

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Operations and everything after them in one pass; erasing and CutMix's box take another."""
        from fastpipe import kernels

        if params.ops is not None and _several_passes(params):
            # Each of these would repeat the operations.
            images, params = augment_on_cpu(images, params), replace(params, ops=None, flip=None)
        images, params = settle_resize(images, params)
        mix, erasing = params.mix, params.erasing
        operations = None if params.ops is None else _operations(params.ops)
        num, height, width = images.shape[:3]
        if params.colout is not None:
            height, width = len(params.colout.rows), len(params.colout.columns)
        out = self._memory.empty((num, 3, height, width), output.dtype, output.memory_format)
        rows, columns = picks(params)
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
                float_table(output),
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
    """Whether `finish` cannot process each image in a single pass."""
    if params.resize is not None and params.resize.interpolation == "bilinear":
        return True
    return params.mix is not None and (params.mix.region is not None or params.erasing is not None)


def _operations(ops: OpParams) -> Operations:
    from fastpipe import kernels

    return kernels.Operations(ops.ops, ops.values, ops.matrices, ops.fills, ops.interpolations)
