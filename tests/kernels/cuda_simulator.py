"""Run by test_cuda_sim.py in a process of its own, with NUMBA_ENABLE_CUDASIM=1: the CUDA kernels on the CPU.

Every path on tiny images against the CPU kernels; prints one JSON line per case: its name, how many bytes
differ, how many there are, and the largest difference.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from typing import Any

import numpy as np
import torch
from numba import cuda

from fastpipe import kernels
from fastpipe.device.cuda import CudaEngine, _check_sizes_and_mixes
from fastpipe.device.engines import FusedEngine, Output
from fastpipe.kernels import cuda_finish_ops, cuda_ops, cuda_schedule
from fastpipe.kernels.cuda_catalog import catalog
from fastpipe.kernels.cuda_layout import STATISTICS_PARTS
from fastpipe.kernels.cuda_plan import make_plan
from fastpipe.kernels.cuda_schedule import schedule, schedule_erase

# A simulated thread is a thread of Python: few per block. Every kernel takes any block.
cuda_schedule._THREADS, cuda_schedule._TABLE_THREADS, cuda_schedule._TILE = 8, 16, (4, 2, 1)
cuda_schedule._TURNS = 3
KERNELS = {name: cuda.jit(kernel.function) for name, kernel in catalog().items()}
BITS = {torch.uint8: np.uint8, torch.float16: np.uint16, torch.bfloat16: np.uint16, torch.float32: np.uint32}


def run(launch: Any, buffers: dict[str, np.ndarray]) -> None:
    arguments = []
    for argument in launch.arguments:
        if isinstance(argument, int):
            arguments.append(np.uint32(argument))
            continue
        name, _, form = argument[0].partition(":")
        array = buffers[name]
        if form:
            array = array.view(np.uint32 if form == "words" or array.itemsize == 1 else np.uint64)
        if name == "reals":  # the driver hands over the same pointer as `numbers`
            array = array.view(np.float32)
        arguments.append(array[argument[1] :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 32-bit sums wrap on purpose
        KERNELS[launch.kernel][launch.grid, launch.block](*arguments)


def on_simulator(
    images: np.ndarray, chain: dict[str, Any], norm: torch.Tensor, channels_last: bool
) -> torch.Tensor:
    num, height, width, _ = images.shape
    plan = make_plan(images.shape, **chain)
    dtype = BITS[norm.dtype]
    buffers = {
        "images": images.reshape(-1),
        "numbers": plan.numbers,
        "reals": plan.numbers.view(np.float32),
        "longs": plan.numbers.view(np.int64),
        "norm": norm.view({8: torch.uint8, 16: torch.int16, 32: torch.int32}[dtype().itemsize * 8])
        .numpy()
        .view(dtype),
        "levels": np.tile(np.arange(256, dtype=np.uint8), 3),
        "tables": np.full(num * 768, 99, np.uint8),
        "counts": np.full(num * STATISTICS_PARTS * 768, 99, np.int32),
        "scratch0": np.full(images.size, 77, np.uint8),
        "scratch1": np.full(images.size, 78, np.uint8),
        "out": np.full(images.size, 55, dtype),
    }
    bits = dtype().itemsize * 8
    for launch in schedule(plan.header, height, width, bits=bits, channels_last=channels_last, aligned=True):
        run(launch, buffers)
    return as_tensor(buffers["out"], norm.dtype, images.shape, channels_last)


def as_tensor(out: np.ndarray, dtype: torch.dtype, shape: Any, channels_last: bool) -> torch.Tensor:
    num, height, width, _ = shape
    signed = {1: np.uint8, 2: np.int16, 4: np.int32}[out.itemsize]
    flat = torch.from_numpy(out.view(signed)).view(dtype)
    if channels_last:
        return flat.view(num, height, width, 3).permute(0, 3, 1, 2)
    return flat.view(num, 3, height, width)


def on_cpu(images: np.ndarray, chain: dict[str, Any], norm: torch.Tensor) -> torch.Tensor:
    flip = chain["flip"]
    if chain["ops"] is not None:
        rest = [chain[name] for name in ("ops", "values", "matrices", "fills", "interpolations")]
        images, flip = kernels.augment_batch(images, *rest, flip=flip), None
    out = torch.empty((len(images), 3, *images.shape[1:3]), dtype=norm.dtype)
    table = None if norm.dtype == torch.uint8 else TABLE
    return kernels.finish(images, out, table, flip=flip)


TABLE = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def norm_of(dtype: torch.dtype) -> torch.Tensor:
    if dtype == torch.uint8:
        return torch.arange(256, dtype=torch.uint8).repeat(3)
    return TABLE.to(dtype).reshape(-1)


def report(name: str, ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert ours.dtype == expected.dtype and ours.shape == expected.shape
    difference = (ours.double() - expected.double()).abs()
    result = {"name": name, "differ": int((difference > 0).sum()), "of": difference.numel()}
    print(json.dumps({**result, "largest": float(difference.max())}), flush=True)


ONES = [  # operation, value
    *[("identity", 0), ("autocontrast", 0), ("equalize", 0), ("posterize", 3), ("solarize", 99.5)],
    *[("solarize_add", 40), ("invert", 0), ("brightness", 1.37), ("contrast", 0.4), ("contrast", 1.9)],
    *[("color", 1.6), ("sharpness", 1.9), ("sharpness", 0.1)],
]


def matrices_of(height: int, width: int) -> list[tuple[float, ...]]:
    # A level that float32 holds, as torchvision draws them.
    slant = float(np.float32(0.09))
    return [
        *[
            kernels.shear_x(slant),
            kernels.shear_y(-slant),
            kernels.translate_x(3.0),
            kernels.translate_y(-2.5),
        ],
        *[kernels.rotate(30, height, width), kernels.rotate(-90, height, width)],
        (0.7, 0.0, 1.3, 0.0, 1.9, -2.0),
        (1.0, 0.1, 40000.0, 0.2, 1.0, 0.0),
        (9000.0, 0.1, -20000.0, 0.2, 1.0, 0.0),
    ]


def chain_of(
    num: int, depth: int, rng: np.random.Generator, height: int, width: int, mode: int
) -> dict[str, Any]:
    """`depth` operations for each image, taken in turn from all of them."""
    warps = [("affine", 0, matrix) for matrix in matrices_of(height, width)]
    # Bilinear: only warps, of sizes that policies draw; the rest is the same as in the nearest cases.
    still = [(op, value, (1, 0, 0, 0, 1, 0)) for op, value in ONES]
    choices: list[Any] = warps[:7] if mode else still + warps
    drawn = [[choices[(i + 7 * d) % len(choices)] for d in range(depth)] for i in range(num)]
    return {
        "ops": np.array([[kernels.OPS[op] for op, _, _ in row] for row in drawn]),
        "values": np.array([[value for _, value, _ in row] for row in drawn], np.float64),
        "matrices": np.array([[matrix for _, _, matrix in row] for row in drawn], np.float64),
        "fills": rng.integers(0, 256, (num, 3)).astype(np.uint8),
        "interpolations": np.full((num, depth), mode, np.uint8),
        "flip": np.arange(num) % 3 == 1,
    }


NOTHING = dict.fromkeys(("ops", "values", "matrices", "fills", "interpolations"))


def main() -> None:
    rng = np.random.default_rng(5)
    every = len(ONES) + len(matrices_of(1, 1))
    for num, shape, depth, mode, dtype, channels_last in [
        *[(every, (6, 8), 1, 0, torch.float16, True), (14, (7, 9), 1, 1, torch.uint8, True)],
        *[(5, (5, 7), 2, 0, torch.float32, False), (4, (3, 4), 3, 0, torch.bfloat16, True)],
        *[(4, (1, 1), 1, 1, torch.uint8, False)],
    ]:
        images = rng.integers(0, 256, (num, *shape, 3)).astype(np.uint8)
        chain = chain_of(num, depth, rng, *shape, mode)
        norm = norm_of(dtype)
        ours = on_simulator(images, chain, norm, channels_last)
        name = (
            f"{'bilinear' if mode else 'exact'} {shape} depth {depth} {dtype} channels_last={channels_last}"
        )
        report(name, ours, on_cpu(images, chain, norm))
    for dtype in BITS:
        for channels_last in (True, False):
            for shape in ((3, 8), (3, 5)):
                images = rng.integers(0, 256, (3, *shape, 3)).astype(np.uint8)
                chain = {**NOTHING, "flip": np.array([True, False, True])}
                ours = on_simulator(images, chain, norm_of(dtype), channels_last)
                name = f"exact flip {shape} {dtype} channels_last={channels_last}"
                report(name, ours, on_cpu(images, chain, norm_of(dtype)))
    for channels_last in (True, False):
        erase(channels_last)
    whole_engine()


def simulated(launches: Any, buffers: Any, device: torch.device, names: tuple[str, ...]) -> None:
    """Stands for `cuda_ops.run_launches`: the same launches on the memory of CPU tensors."""
    unsigned = {torch.float16: np.uint16, torch.bfloat16: np.uint16, torch.float32: np.uint32}
    memory = {}
    for name, tensor in buffers.items():
        ordered = tensor if tensor.is_contiguous() else tensor.permute(0, 2, 3, 1)
        if name != "shares" and tensor.dtype in unsigned:
            ordered = ordered.view({2: torch.int16, 4: torch.int32}[tensor.itemsize])
            memory[name] = ordered.reshape(-1).numpy().view(unsigned[tensor.dtype])
        else:
            memory[name] = ordered.reshape(-1).numpy()
        assert np.shares_memory(memory[name], ordered.numpy()) or not tensor.numel()
    for launch in launches:
        assert launch.kernel in names
        run(launch, memory)


class OnSimulator(CudaEngine):
    def _moved(self, numbers: Any) -> torch.Tensor:
        return torch.as_tensor(numbers.copy() if isinstance(numbers, np.ndarray) else numbers)


def whole_engine() -> None:
    """ColOut, resize, MixUp and CutMix through the operations that torch sees, as the engine calls them."""
    cuda_ops.run_launches = cuda_finish_ops.run_launches = simulated
    torch.cuda.device = lambda device: contextlib.nullcontext()
    torch.cuda.synchronize = lambda device: None
    cuda_ops.LIBRARY.impl("fused", cuda_ops._fused_cuda, "CPU")
    cuda_ops.LIBRARY.impl("erase_boxes_", cuda_ops._erase_cuda, "CPU")
    for name, (implementation, _) in cuda_finish_ops._IMPLEMENTED.items():
        cuda_ops.LIBRARY.impl(name, implementation, "CPU")
    engine, cpu = OnSimulator(torch.device("cpu"), check=False), FusedEngine()
    images = torch.from_numpy(np.random.default_rng(8).integers(0, 256, (2, 12, 10, 3), dtype=np.uint8))
    dtypes = (torch.bfloat16, torch.float16, torch.float32)
    layouts = (torch.channels_last, torch.contiguous_format)
    for turn, (name, params) in enumerate(_check_sizes_and_mixes(2, 12, 10)):
        dtype, layout = dtypes[turn % 3], layouts[turn % 2]
        output = Output(dtype=dtype, memory_format=layout, table=TABLE)
        ours = engine.finish(engine.augment(images, params), params, output)
        augmented = images if params.ops is None else cpu.augment(images, params)
        assert ours.is_contiguous(memory_format=layout)
        report(f"exact engine {name} {dtype} {layout}", ours, cpu.finish(augmented, params, output))


def erase(channels_last: bool) -> None:
    out = torch.zeros((3, 3, 6, 5), dtype=torch.float16)
    boxes = np.array([[1, 2, 3, 2], [0, 0, 6, 5], [4, 1, 2, 4]])
    values = torch.tensor([0.5, -1.25, 3.0], dtype=torch.float16)
    expected = kernels.erase(out.clone(), boxes, values.float().numpy(), np.array([True, False, True]))
    listed = np.array([[0, *boxes[0]], [2, *boxes[2]]], np.int32)
    buffers = {
        "boxes": listed.reshape(-1),
        "values": values.view(torch.int16).numpy().view(np.uint16),
        "out": np.zeros(out.numel(), np.uint16),
    }
    run(schedule_erase(2, 8, 6, 5, bits=16, channels_last=channels_last), buffers)
    ours = as_tensor(buffers["out"], torch.float16, (3, 6, 5, 3), channels_last)
    report(f"exact erase channels_last={channels_last}", ours, expected)


if __name__ == "__main__":
    sys.exit(main())
