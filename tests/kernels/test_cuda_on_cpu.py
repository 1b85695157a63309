"""Every CUDA kernel, compiled for the CPU and launched by our own schedules: the CPU kernels' bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fastpipe import kernels
from fastpipe.device.draws.batch import ColOutParams, MixParams
from fastpipe.device.draws.draw import ErasingParams, Params, ResizeParams
from fastpipe.device.draws.params import OpParams
from fastpipe.device.draws.policies import Policy, draw_policy, num_uniforms
from fastpipe.device.engines.cuda import CudaEngine
from fastpipe.device.engines.cuda_selfcheck import _check_params, _check_sizes_and_mixes, differences
from fastpipe.device.engines.fused import FusedEngine
from fastpipe.device.engines.protocol import Output
from fastpipe.kernels.cuda import finish_ops as cuda_finish_ops
from fastpipe.kernels.cuda import ops as cuda_ops
from fastpipe.kernels.tolerance import disagreement
from fastpipe.transforms.policy_specs import RandAugment, TrivialAugmentWide

CPU = torch.device("cpu")
TABLE = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NCHW, NHWC = torch.contiguous_format, torch.channels_last
HALVES, FLOATS = (torch.float16, torch.bfloat16), (torch.float16, torch.bfloat16, torch.float32)
OUTPUTS = [
    Output(dtype=dtype, memory_format=layout, table=None if dtype == torch.uint8 else TABLE)
    for dtype in (torch.uint8, *FLOATS)
    for layout in (NCHW, NHWC)
]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("cuda_on_cpu", Path(__file__).with_name("cuda_on_cpu.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


OnCpu: Any = _load().OnCpu


class Engine(CudaEngine):
    """The engine of a GPU, but for the copies to it."""

    def _moved(self, numbers: Any) -> torch.Tensor:
        return torch.as_tensor(numbers.copy() if isinstance(numbers, np.ndarray) else numbers)


@pytest.fixture(scope="module")
def no_gpu() -> Iterator[None]:
    """torch's operations of the CUDA kernels exist on the CPU too."""
    library = torch.library.Library("fastpipe", "IMPL")
    functions = {"fused": cuda_ops._fused_cuda, "erase_boxes_": cuda_ops._erase_cuda}
    functions |= {name: function for name, (function, _) in cuda_finish_ops._IMPLEMENTED.items()}
    for name, function in functions.items():
        library.impl(name, function, "CPU")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        patch.setattr(torch.cuda, "synchronize", lambda device: None)
        yield
    library._destroy()


@contextlib.contextmanager
def launching(compiled: Any) -> Iterator[Engine]:
    """An engine whose launches run the kernels of `compiled`."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (cuda_ops, cuda_finish_ops):
            patch.setattr(module, "run_launches", compiled.run_launches)
        yield Engine(CPU, check=False)


@pytest.fixture(scope="module")
def compiled() -> Any:
    return OnCpu()


@pytest.fixture
def engine(no_gpu: None, compiled: Any) -> Iterator[Engine]:
    with launching(compiled) as made:
        yield made


def noise(num: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (num, height, width, 3), dtype=np.uint8)
    )


def compare(engine: Engine, images: torch.Tensor, params: Params, output: Output) -> None:
    """Equal bytes: of bilinear warps as well, though contract 6 would let them differ a little."""
    ours = engine._finish(images, params, output)
    expected = FusedEngine().finish(images, params, output)
    assert ours.is_contiguous(memory_format=output.memory_format)
    assert disagreement(ours, expected, tolerant=False, table=output.table) == "", output


SMALL = [(1, 1), (1, 7), (9, 1), (3, 4), (31, 17), (16, 48)]


@pytest.mark.parametrize("mode", [0, 1], ids=["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [*SMALL, (224, 224), (448, 448)], ids=str)
def test_every_operation_at_every_size(engine: Engine, shape: tuple[int, int], mode: int) -> None:
    """Flipped and not, two in a row; every dtype and layout where images are small."""
    images, params = noise(24, *shape), _check_params(mode, 24, *shape)
    for output in OUTPUTS if shape in SMALL else OUTPUTS[1:7:4]:
        compare(engine, images, params, output)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0, 1], ids=["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(224, 224), (320, 239), (447, 445), (448, 448)], ids=str)
def test_every_operation_in_every_output(engine: Engine, shape: tuple[int, int], mode: int) -> None:
    images, params = noise(48, *shape), _check_params(mode, 48, *shape)
    for output in OUTPUTS:
        compare(engine, images, params, output)


POLICIES: dict[str, Policy] = {
    "torchvision nearest": RandAugment(space="torchvision"),
    "torchvision": RandAugment(space="torchvision", magnitude=14, interpolation="bilinear"),
    "torchvision_v2": RandAugment(space="torchvision_v2", magnitude=30, interpolation="bilinear"),
    "trivial": TrivialAugmentWide(interpolation="bilinear"),
    "composer": RandAugment(space="composer", depth=2, severity=9.0),
    "composer-original": RandAugment(space="composer-original", severity=5.0),
    "composer-safe": RandAugment(space="composer-safe", depth=3),
    # Round levels give shears by 0.15 and 0.27: whole levels everywhere.
    "timm m5": RandAugment(space="timm", magnitude=5, p=1.0),
    "timm m9": RandAugment(space="timm", magnitude=9),
    "timm m9 increasing": RandAugment(space="timm", magnitude=9, mstd=0.5, increasing=True),
    "timm m15": RandAugment(space="timm", magnitude=15, mstd=0.5, num_ops=3),
    "timm any": RandAugment(space="timm", mstd=float("inf")),
}


def draw(spec: Policy, num: int, height: int, width: int, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    ops = draw_policy(spec, rng.random((num, num_uniforms(spec))), height, width)
    return Params(ops=ops, flip=rng.random(num) < 0.5)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_as_they_are_drawn(engine: Engine, name: str) -> None:
    for turn, shape in enumerate([(7, 5), (61, 88), (176, 176)]):
        output = OUTPUTS[(3 * turn + 2 * list(POLICIES).index(name) + 1) % len(OUTPUTS)]
        compare(engine, noise(64, *shape), draw(POLICIES[name], 64, *shape, turn), output)


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_many_images_of_each_policy(engine: Engine, name: str) -> None:
    for turn in range(4):
        compare(
            engine, noise(128, 224, 224, turn), draw(POLICIES[name], 128, 224, 224, 100 + turn), OUTPUTS[5]
        )


def drawn_warps(spec: Policy, num: int, height: int, width: int) -> Params:
    """`num` warps as the policy draws them, and nothing else."""
    drawn, seed = [], 0
    while sum(map(len, drawn)) < num:
        ops = draw(spec, 2 * num, height, width, seed).ops
        assert ops is not None
        drawn.append(ops.matrices[(ops.ops == kernels.OPS["affine"]) & (ops.matrices != STILL).any(axis=-1)])
        seed += 1
    return warped(np.concatenate(drawn)[:num, None])


STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def warped(matrices: npt.NDArray[np.float64]) -> Params:
    """Bilinear warps, every other image flipped. matrices: [B,1,6]."""
    num = len(matrices)
    ops = OpParams(
        ops=np.full((num, 1), kernels.OPS["affine"], np.int16),
        values=np.zeros((num, 1)),
        matrices=matrices,
        interpolations=np.ones((num, 1), np.uint8),
        fills=np.tile(np.array([7, 99, 201], np.uint8), (num, 1)),
    )
    return Params(ops=ops, flip=np.arange(num) % 2 == 1)


BILINEAR = [name for name in POLICIES if name != "torchvision nearest"]


@pytest.mark.parametrize("name", BILINEAR)
def test_a_thousand_drawn_warps(engine: Engine, name: str) -> None:
    """In 32.32 fixed point the worst 64 images of timm's m5 were at 1.2e-2, one image at 12 %."""
    compare(engine, noise(1024, 40, 56), drawn_warps(POLICIES[name], 1024, 40, 56), OUTPUTS[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", BILINEAR)
def test_many_thousand_drawn_warps(engine: Engine, name: str) -> None:
    for size, num in ((64, 8192), (224, 512)):
        compare(engine, noise(num, size, size), drawn_warps(POLICIES[name], num, size, size), OUTPUTS[0])


def test_round_and_far_warps(engine: Engine) -> None:
    """Shears by hundredths, with the self-check's false alarm; maps far beyond the image."""
    matrices = [shear(v / 100) for v in range(-30, 31) for shear in (kernels.shear_x, kernels.shear_y)]
    matrices += [
        *[kernels.translate_x(0.5), kernels.translate_y(-0.25), kernels.rotate(45, 48, 32)],
        *[
            (1e9, 0.25, -3e8, 0.0, 1e9, 0.0),
            (0.0, 0.0, 3.5, 0.0, 0.0, 7.25),
            (-1.0, 0.0, 32.0, 0.0, -1.0, 48.0),
        ],
        *[(1.0, 0.0, 1e8, 0.0, 1.0, 0.0), (1e-300, 1.0, 0.5, 1.0, -1e-300, 0.5), (1, 0, -0.5, 0, 1, -0.5)],
    ]
    params = warped(np.array(matrices, float)[:, None])
    compare(engine, noise(len(matrices), 48, 32), params, OUTPUTS[0])


CHANGED = [name for name, _ in _check_sizes_and_mixes(2, 64, 72)]


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("shape", [(3, 12, 10), (5, 33, 41), (8, 64, 72)], ids=str)
def test_sizes_and_mixes(engine: Engine, name: str, shape: tuple[int, int, int]) -> None:
    params = dict(_check_sizes_and_mixes(*shape))[name]
    for output in OUTPUTS[2:]:
        compare(engine, noise(*shape), params, output)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_sizes_and_mixes_of_a_training(engine: Engine, name: str) -> None:
    params = dict(_check_sizes_and_mixes(32, 224, 220))[name]
    for output in OUTPUTS[2:]:
        compare(engine, noise(32, 224, 220), params, output)


def colout(height: int, width: int, kept: Sequence[int]) -> ColOutParams:
    rng = np.random.default_rng(kept[1])
    rows, columns = (
        np.sort(rng.permutation(size)[:left]) for size, left in zip((height, width), kept, strict=True)
    )
    return ColOutParams(rows=rows, columns=columns)


@pytest.mark.parametrize("kept", [(1, 1), (2, 3), (45, 47), (47, 45), (30, 31)], ids=str)
def test_odd_widths_of_colout(engine: Engine, kept: tuple[int, int]) -> None:
    """Alone, behind a policy, in front of MixUp and of CutMix: 0.95 of 224 is 212, of 176 it is 167."""
    mixup = MixParams(partner=np.roll(np.arange(6), 1), weight=0.3)
    cutmix = MixParams(
        partner=np.arange(6)[::-1].copy(), weight=0.5, region=(0, 0, kept[0], (kept[1] + 1) // 2)
    )
    dropped = Params(flip=np.arange(6) % 2 == 0, colout=colout(48, 50, kept))
    drawn = dataclasses.replace(draw(POLICIES["timm m9"], 6, 48, 50, 3), colout=dropped.colout)
    for params in (dropped, drawn):
        for mix in (None, mixup, cutmix):
            for output in OUTPUTS[0 if mix is None else 2 :]:
                compare(engine, noise(6, 48, 50), dataclasses.replace(params, mix=mix), output)


@pytest.mark.parametrize("shape", [(224, 224, 212, 213), (176, 176, 167, 167)], ids=str)
def test_colout_at_the_sizes_of_the_recipes(engine: Engine, shape: tuple[int, int, int, int]) -> None:
    height, width, *kept = shape
    mix = MixParams(partner=np.roll(np.arange(4), 1), weight=0.2)
    params = Params(flip=np.arange(4) % 2 == 0, colout=colout(height, width, kept), mix=mix)
    for output in OUTPUTS[2:]:
        compare(engine, noise(4, height, width), params, output)


@pytest.mark.parametrize("width", [36, 35])
def test_flip_and_erasing(engine: Engine, width: int) -> None:
    boxes = np.array([[i, 2 * i, 5 + i, 7] for i in range(6)])
    erasing = ErasingParams(boxes=boxes, apply=np.arange(6) % 2 == 0, value=(0.5, -1.0, 2.0))
    params = Params(flip=np.arange(6) % 3 == 0, erasing=erasing)
    for output in OUTPUTS[2:]:
        compare(engine, noise(6, 33, width), params, output)


def test_images_that_begin_anywhere_in_memory(engine: Engine) -> None:
    """The packed kernels read words; an address that is no multiple of 4 takes the plain ones."""
    memory = noise(1, 1, 9 * 8 * 8 + 1).view(-1)
    for start in range(4):
        images = memory[start : start + 9 * 8 * 8 * 3].view(9, 8, 8, 3)
        assert images.data_ptr() % 4 == (memory.data_ptr() + start) % 4
        for output in OUTPUTS:
            compare(engine, images, Params(flip=np.arange(9) % 2 == 0), output)


HUGE = (65535, 147, 148)  # 4,277,206,740 elements; most pages of such a batch are never touched


def huge() -> tuple[torch.Tensor, torch.Tensor]:
    """A black batch with one image of noise, its last, and that image alone."""
    images, last = torch.from_numpy(np.zeros((*HUGE, 3), np.uint8)), noise(1, *HUGE[1:])
    images[-1:] = last
    return images, last


@pytest.mark.slow
@pytest.mark.parametrize("op", ["identity", "autocontrast", "color", "nearest", "bilinear"])
def test_the_last_image_of_the_largest_batch(no_gpu: None, op: str) -> None:
    """Just below element 2^32: an index that is signed, or wraps, is another image's."""
    num, height, width = HUGE
    images, last = huge()
    ops = np.full((num, 1), kernels.OPS["identity"], np.int16)
    ops[-1] = kernels.OPS["affine" if op in kernels.INTERPOLATIONS else op]
    modes = np.full((num, 1), kernels.INTERPOLATIONS.get(op, 0), np.uint8)
    matrices = np.tile(kernels.rotate(20, height, width), (num, 1, 1))
    fills = np.full((num, 3), 9, np.uint8)
    drawn = OpParams(
        ops=ops, values=np.full((num, 1), 1.5), matrices=matrices, interpolations=modes, fills=fills
    )
    params = Params(ops=drawn, flip=np.arange(num) % 2 == 0)
    for layout in (NCHW, NHWC):
        compare_last(images, last, params, Output(dtype=torch.uint8, memory_format=layout, table=None))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["picked", "resized", "CutMix"])
def test_the_last_image_of_the_largest_last_pass(no_gpu: None, step: str) -> None:
    num, height, width = HUGE
    images, last = huge()
    params = Params(flip=np.arange(num) % 2 == 0, colout=colout(height, width, (140, 141)))
    if step == "resized":
        params = dataclasses.replace(params, resize=ResizeParams(height=146, width=149))
    if step == "CutMix":
        mix = MixParams(partner=np.arange(num), weight=0.5, region=(130, 140, 10, 1))
        params = dataclasses.replace(params, mix=mix)
    output = Output(dtype=torch.uint8, memory_format=NHWC, table=None)
    if step == "CutMix":
        output = dataclasses.replace(output, dtype=torch.bfloat16, table=TABLE)
    compare_last(images, last, params, output)


def compare_last(images: torch.Tensor, last: torch.Tensor, params: Params, output: Output) -> None:
    """The last image of a batch of which the rest is black and is left out."""
    compiled = OnCpu()
    compiled.last_only = True
    with launching(compiled) as engine:
        ours = engine._finish(images, params, output)[-1:].clone()
    ops, mix = params.ops, params.mix
    if ops is not None:
        names = [field.name for field in dataclasses.fields(ops)]
        ops = OpParams(**{name: getattr(ops, name)[-1:] for name in names})
    if mix is not None:
        mix = dataclasses.replace(mix, partner=np.zeros(1, np.int64))
    alone = dataclasses.replace(
        params, flip=None if params.flip is None else params.flip[-1:], ops=ops, mix=mix
    )
    expected = FusedEngine().finish(last, alone, output)
    assert disagreement(ours, expected, tolerant=False, table=output.table) == ""


def test_no_kernel_is_left_out(engine: Engine, compiled: Any) -> None:
    boxes = ErasingParams(
        boxes=np.tile([0, 0, 3, 3], (24, 1)), apply=np.ones(24, bool), value=(1.0, 1.0, 1.0)
    )
    for width in (8, 9):
        for mode in (0, 1):
            for output in OUTPUTS:
                erasing = None if output.table is None else boxes
                params = dataclasses.replace(_check_params(mode, 24, 12, width), erasing=erasing)
                compare(engine, noise(24, 12, width), params, output)
    for _, params in _check_sizes_and_mixes(3, 12, 10):
        for output in OUTPUTS[2:]:
            compare(engine, noise(3, 12, 10), params, output)
    resized = dict(_check_sizes_and_mixes(3, 12, 10))["bilinear resize"]
    compare(engine, noise(3, 12, 10), dataclasses.replace(resized, erasing=None), OUTPUTS[0])
    assert set(compiled.catalog) - compiled.used == set()


def test_the_self_check_accepts_the_kernels(engine: Engine) -> None:
    assert differences(engine._finish, CPU) == ""


BROKEN = {
    "no barrier": ("    cuda.syncthreads()\n\n\n", "\n\n"),
    "float32 coordinates": (
        "return affine_coordinate(a, b, c, across, down)",
        "return np.float64(np.float32(affine_coordinate(a, b, c, across, down)))",
    ),
    "forgotten flip": ("np.uint32(3) * mirrored(left, width, flip)", "np.uint32(3) * left"),
    "a row too far": ("pixel_offset(place, lower, ", "pixel_offset(place, np.uint32(lower + np.uint32(1)), "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_gate_can_fail(no_gpu: None, name: str) -> None:
    matrices = np.array([kernels.shear_y(-0.13), kernels.rotate(30, 24, 20)] * 8)[:, None]
    params = Params(flip=np.arange(16) % 2 == 0) if name == "no barrier" else warped(matrices)
    with (
        launching(OnCpu(BROKEN[name])) as engine,
        pytest.raises((AssertionError, IndexError), match=r"bytes differ|out of bounds"),
    ):
        compare(engine, noise(16, 24, 20), params, OUTPUTS[1])
