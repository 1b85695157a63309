"""Plain torch operations, on any device; on the CPU with the fused engine's bytes."""

from __future__ import annotations

import numpy as np
import torch

from fastpipe.device.draws.draw import Params
from fastpipe.device.engines.protocol import (
    Output,
    augment_on_cpu,
    flip_left,
    float_table,
    picks,
)
from fastpipe.device.resizing import settle_resize


class TorchEngine:
    """Plain torch operations: any device, no compilation. Policy operations run before the transfer."""

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """Policy operations on the CPU, as part of the host's work."""
        return augment_on_cpu(images, params)

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Gather, cast and arrange with torch's own kernels, on the device of `images`."""
        from fastpipe.kernels import reference

        images, params = settle_resize(images, params)
        mix = params.mix
        dtype = output.dtype if mix is None else torch.float32
        table = output.table if mix is None else float_table(output)
        out = reference.finish_torch(
            images, dtype, table, flip_left(params), output.memory_format, *picks(params)
        )
        if params.erasing is not None:
            erasing = params.erasing
            out = reference.erase_torch(out, erasing.boxes, np.asarray(erasing.value), erasing.apply)
        if mix is not None:
            out = reference.mix_torch(out, mix.partner, mix.pixel_weight, mix.region)
            out = out.to(output.dtype).contiguous(memory_format=output.memory_format)
        return out
