"""The fused engine on CUDA: all operations of a batch after the copy, in as many passes as they are deep.

    images uint8 [B,H,W,3] on the GPU -> flip, policy, table, cast, layout -> [B,3,H,W] -> erasing
                                                -> ColOut, resize, MixUp, CutMix: `cuda_passes.py`

At the first use on a device it compares itself with the CPU kernels, within `kernels/tolerance.py`. If it
does not start or does not agree, the torch engine serves; see `cuda_trust.py`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.device.batch_draws import ColOutParams, MixParams
from fastpipe.device.cuda_passes import Passes
from fastpipe.device.cuda_trust import doubt
from fastpipe.device.draw import ErasingParams, Params, ResizeParams
from fastpipe.device.engines import Engine, FusedEngine, Output, TorchEngine
from fastpipe.device.policies import OpParams
from fastpipe.device.transfer import pinned
from fastpipe.extras import install_command
from fastpipe.kernels.tolerance import disagreement

__all__ = ["CudaEngine", "differences", "missing_for_cuda"]

_log = logging.getLogger(__name__)

Finish = Callable[[torch.Tensor, Params, Output], torch.Tensor]


def missing_for_cuda() -> str | None:
    """What to install before the fused engine can run on CUDA; None where nothing is missing."""
    from fastpipe.kernels.cuda.compile import missing_package

    package = missing_package()
    # The toolkit's CUDA must be torch's: their pins exclude each other.
    extra = "cuda12" if (torch.version.cuda or "").startswith("12.") else "cuda"
    return None if package is None else install_command(extra)


class CudaEngine:
    """CUDA kernels on torch's current stream. Nothing is done on the host but the plan of the batch."""

    def __init__(self, device: torch.device, *, check: bool = True) -> None:
        self.device = device
        self._fallback: Engine | None = None
        self._checked = not check
        self._norms: dict[torch.dtype, tuple[torch.Tensor | None, torch.Tensor]] = {}

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """The images as they are: policy operations run after the copy, in `finish`."""
        fallback = self._ready()
        return images if fallback is None else fallback.augment(images, params)

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Flip, policy operations, ColOut, resize, table, cast, layout, erasing and mixing."""
        fallback = self._ready()
        if fallback is not None:
            return fallback.finish(images, params, output)
        return self._finish(images, params, output)

    def _ready(self) -> Engine | None:
        """The engine that serves instead of this one, or None. Finds out at the first call."""
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
            # A pass of its own: partners are not warped twice, and sharpness has its neighbours.
            levels = Output(dtype=torch.uint8, memory_format=torch.channels_last, table=None)
            images = self._fused(images, params, levels).permute(0, 2, 3, 1)
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
            # Kept for every stream, so it must be there before another one reads it. The stream alone is
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


def differences(finish: Finish, device: torch.device) -> str:
    """What `finish` on `device` does otherwise than the CPU kernels; empty where it agrees.

    finish: a function like `Engine.finish`. A batch with every operation, flipped and not, once with nearest
    and once with bilinear warps, as uint8 and as bfloat16; then ColOut, resize, MixUp and CutMix.
    """
    from fastpipe import kernels

    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (24, 64, 72, 3), dtype=np.uint8))
    table = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for mode, name in enumerate(kernels.INTERPOLATIONS):
        params = _check_params(mode, len(images), 64, 72)
        for dtype in (torch.uint8, torch.bfloat16):
            output = Output(
                dtype=dtype,
                memory_format=torch.channels_last if mode else torch.contiguous_format,
                table=None if dtype == torch.uint8 else table,
            )
            problem = _compared(finish, device, images, params, output, tolerant=mode == 1)
            if problem:
                return f"{problem} ({name} warps, {dtype})"
    for name, params in _check_sizes_and_mixes(len(images), 64, 72):
        floats = torch.float16 if params.ops is None else torch.float32
        for dtype in (floats, torch.bfloat16) if params.mix is not None else (floats, torch.uint8):
            output = Output(
                dtype=dtype,
                memory_format=torch.channels_last if dtype == floats else torch.contiguous_format,
                table=None if dtype == torch.uint8 else table,
            )
            problem = _compared(finish, device, images, params, output, tolerant=False)
            if problem:
                return f"{problem} ({name}, {dtype})"
    return ""


def _compared(
    finish: Finish,
    device: torch.device,
    images: torch.Tensor,
    params: Params,
    output: Output,
    *,
    tolerant: bool,
) -> str:
    if output.dtype == torch.uint8:
        params = replace(params, erasing=None)  # for values only
    ours = finish(images.to(device), params, output).cpu()
    cpu = FusedEngine()
    augmented = images if params.ops is None else cpu.augment(images, params)
    expected = cpu.finish(augmented, params, output)
    return disagreement(ours, expected, tolerant=tolerant, table=output.table)


def _check_sizes_and_mixes(num: int, height: int, width: int) -> Iterator[tuple[str, Params]]:
    """What changes the size or mixes, behind nothing but a flip and behind every operation."""
    colout = ColOutParams(rows=np.delete(np.arange(height), [0, 9]), columns=np.arange(3, width, 2))
    turn, (tall, wide) = np.arange(num), (height // 4, width // 4)
    # Inside every output below, half the height and width at least.
    boxes = np.stack([turn % tall, turn % wide, np.full(num, height // 6), np.full(num, width // 8)], axis=1)
    erasing = ErasingParams(boxes=boxes, apply=turn % 3 != 1, value=(0.5, -1.0, 2.0))
    partner = np.roll(turn, 1)
    mixup = MixParams(partner=partner, weight=float(np.float32(0.3)))
    cutmix = MixParams(partner=partner, weight=0.25, region=(height // 8, width // 8, tall, width // 6))
    smaller = ResizeParams(height=37 * height // 64, width=30 * width // 72)
    larger = ResizeParams(height=5 * height // 4, width=width + 1)
    nearest = replace(smaller, interpolation="nearest")
    flipped, operated = Params(flip=turn % 3 == 1), _check_params(0, num, height, width)
    yield "ColOut", replace(flipped, colout=colout)
    yield "ColOut and MixUp", replace(operated, colout=colout, mix=mixup)
    yield "ColOut, nearest resize and CutMix", replace(operated, colout=colout, resize=nearest, mix=cutmix)
    yield "bilinear resize", replace(flipped, colout=colout, resize=smaller, erasing=erasing)
    yield "enlarged, MixUp", replace(operated, resize=larger, mix=mixup)
    yield "erasing, MixUp", replace(flipped, erasing=erasing, mix=mixup)
    yield "erasing, CutMix", replace(flipped, colout=colout, erasing=erasing, mix=cutmix)


def _check_params(mode: int, num: int, height: int, width: int) -> Params:
    """Every operation, then another; every operation, then a warp. What follows a warp is a warp.

    So a level that a bilinear warp may miss is not multiplied by an operation after it.
    """
    from fastpipe import kernels

    matrices = [
        *[kernels.shear_x(float(np.float32(0.09))), kernels.shear_y(-0.13), kernels.translate_x(5.0)],
        *[kernels.translate_y(-3.5), kernels.rotate(30, height, width)],
    ]
    codes, affine = list(kernels.OPS.values()), kernels.OPS["affine"]
    turn = np.arange(num)
    first = np.array(codes)[turn % len(codes)]
    then_any = turn // len(codes) % 2 == 0
    second = np.where(then_any & (first != affine), np.roll(first, 5), affine)
    ops = np.stack([first, second], axis=1)
    values = np.select(
        [ops == kernels.OPS["posterize"], ops == kernels.OPS["solarize"], ops == kernels.OPS["solarize_add"]],
        [3.0, 99.5, 40.0],
        1.37,
    )
    drawn = OpParams(
        ops=ops.astype(np.int16),
        values=values,
        matrices=np.array([[matrices[(i + d) % len(matrices)] for d in range(2)] for i in range(num)]),
        interpolations=np.full(ops.shape, mode, np.uint8),
        fills=np.tile(np.array([7, 99, 201], np.uint8), (num, 1)),
    )
    # Each operation as it is and flipped: the same ones come again after len(codes) images.
    return Params(flip=(turn + turn // len(codes)) % 2 == 1, ops=drawn)
