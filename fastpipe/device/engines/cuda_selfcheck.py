"""Differences between the fused engine on CUDA and the CPU kernels, on a batch with every operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from fastpipe.device.draws.batch import ColOutParams, MixParams
from fastpipe.device.draws.draw import ErasingParams, Params, ResizeParams
from fastpipe.device.draws.params import OpParams
from fastpipe.device.engines.fused import FusedEngine
from fastpipe.device.engines.protocol import Output
from fastpipe.kernels.ops import OPERATIONS
from fastpipe.kernels.tolerance import disagreement

Finish = Callable[[torch.Tensor, Params, Output], torch.Tensor]


def differences(finish: Finish, device: torch.device) -> str:
    """The differences between `finish` on `device` and the CPU kernels; empty if there are none.

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
    """The steps that resize or mix, after a flip alone and after every operation."""
    colout = ColOutParams(rows=np.delete(np.arange(height), [0, 9]), columns=np.arange(3, width, 2))
    turn, (tall, wide) = np.arange(num), (height // 4, width // 4)
    # Inside every output below: at least half the height and width.
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
    """Every operation, then another; every operation, then a warp. Only warps follow a warp.

    So no later operation multiplies a level that a bilinear warp may miss.
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
    values = np.array([one.example for one in OPERATIONS])[ops]
    drawn = OpParams(
        ops=ops.astype(np.int16),
        values=values,
        matrices=np.array([[matrices[(i + d) % len(matrices)] for d in range(2)] for i in range(num)]),
        interpolations=np.full(ops.shape, mode, np.uint8),
        fills=np.tile(np.array([7, 99, 201], np.uint8), (num, 1)),
    )
    # Each operation unflipped and flipped: the same ones recur after len(codes) images.
    return Params(flip=(turn + turn // len(codes)) % 2 == 1, ops=drawn)
