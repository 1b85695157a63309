"""The fused engine on CUDA: all operations of a batch after the copy, in as many passes as the plan is deep.

    images uint8 [B,H,W,3] on the GPU -> flip, policy, table, cast, layout -> [B,3,H,W] -> erasing
                                                -> ColOut, resize, MixUp, CutMix: `cuda_passes.py`

At the first use on a device it compares itself with the CPU kernels, within `kernels/tolerance.py`. If it
does not start or does not agree, the torch engine serves; see `cuda_trust.py`.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.device.draws.draw import ErasingParams, Params
from fastpipe.device.engines.cuda_passes import Passes
from fastpipe.device.engines.cuda_selfcheck import differences
from fastpipe.device.engines.cuda_trust import doubt
from fastpipe.device.engines.eager import TorchEngine
from fastpipe.device.engines.protocol import LEVELS, Engine, Output
from fastpipe.device.transfer import pinned
from fastpipe.extras import install_command

_log = logging.getLogger(__name__)


def missing_for_cuda() -> str | None:
    """What to install before the fused engine can run on CUDA; None if nothing is missing."""
    from fastpipe.kernels.cuda.compile import missing_package

    package = missing_package()
    # The toolkit's CUDA must be torch's: their pins exclude each other.
    extra = "cuda12" if (torch.version.cuda or "").startswith("12.") else "cuda"
    return None if package is None else install_command(extra)


class CudaEngine:
    """CUDA kernels on torch's current stream. The host only makes the plan of the batch."""

    def __init__(self, device: torch.device, *, check: bool = True) -> None:
        self.device = device
        self._fallback: Engine | None = None
        self._checked = not check
        self._norms: dict[torch.dtype, tuple[torch.Tensor | None, torch.Tensor]] = {}

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """The unchanged images: policy operations run after the copy, in `finish`."""
        fallback = self._ready()
        return images if fallback is None else fallback.augment(images, params)

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Flip, policy operations, ColOut, resize, table, cast, layout, erasing and mixing."""
        fallback = self._ready()
        if fallback is not None:
            return fallback.finish(images, params, output)
        return self._finish(images, params, output)

    def _ready(self) -> Engine | None:
        """The engine that serves instead of this one, or None. Determined at the first call."""
        if self._checked:
            return self._fallback
        reason = doubt(self.device, lambda: differences(self._finish, self.device))
        if reason:
            warnings.warn(
                f"engine='fused' on {self.device} {reason}. engine='torch' serves instead",
                RuntimeWarning,
                stacklevel=2,
            )
            self._fallback = TorchEngine()
        self._checked = True
        return self._fallback

    def _finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        if not images.is_contiguous():
            _log.debug("images are not contiguous: copied once (%d bytes)", images.nbytes)
            images = images.contiguous()
        if params.colout is None and params.resize is None and params.mix is None:
            out = self._fused(images, params, output)
            if params.erasing is not None:
                self._erase(out, params.erasing)
            return out
        if params.ops is not None:
            # A separate pass: partners are not warped twice, and sharpness has its neighbours.
            images = self._fused(images, params, LEVELS).permute(0, 2, 3, 1)
        passes = Passes(moved=self._moved, norm=self._norm, erase=self._erase)
        return passes.run(images, params, output)

    def _fused(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Flip, policy operations, table, cast and layout."""
        from fastpipe.kernels.cuda.ops import fused
        from fastpipe.kernels.cuda.plan import make_plan

        ops = params.ops
        if ops is None:
            plan = make_plan(images.shape, None, None, None, None, None, params.flip)
        else:
            parts = (ops.ops, ops.values, ops.matrices, ops.fills, ops.interpolations)
            plan = make_plan(images.shape, *parts, params.flip)
        channels_last = output.memory_format == torch.channels_last
        return fused(images, self._moved(plan.numbers), self._norm(output), plan.header, channels_last)

    def _moved(self, numbers: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
        """A small array on the device. Pinned, so that the copy waits for nothing; the allocator keeps it."""
        if isinstance(numbers, torch.Tensor):
            values = numbers
        elif numbers.flags.writeable:
            values = torch.from_numpy(numbers)
        else:  # filters, which are kept
            values = torch.tensor(numbers, device="cpu")
        return pinned(values, self.device).to(self.device, non_blocking=True)

    def _norm(self, output: Output) -> torch.Tensor:
        """[768] on the device: the value of each level per channel, rounded once by torch."""
        held = self._norms.get(output.dtype)
        if held is None or held[0] is not output.table:
            levels = torch.arange(256, device="cpu").repeat(3)
            values = levels if output.table is None else output.table.reshape(-1)
            held = (output.table, self._moved(values.to(output.dtype)))
            # Kept for every stream, so it must be ready before another one reads it. Only the stream is
            # waited for: waiting for the whole device fails while any thread captures a CUDA graph.
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
            self._norms[output.dtype] = held
        return held[1]

    def _erase(self, out: torch.Tensor, erasing: ErasingParams) -> None:
        from fastpipe.kernels.cuda.ops import erase_boxes

        used = np.flatnonzero(erasing.apply)
        boxes = np.concatenate([used[:, None], erasing.boxes[used]], axis=1).astype(np.int32)
        largest = int((boxes[:, 3].astype(np.int64) * boxes[:, 4]).max(initial=0))
        if largest == 0:
            return
        values = torch.tensor(erasing.value, dtype=torch.float32, device="cpu").to(out.dtype)
        erase_boxes(out, self._moved(boxes), self._moved(values), largest)
