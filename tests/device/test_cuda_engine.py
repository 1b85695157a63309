"""The fused engine on CUDA: choice and fallback without a GPU, the parity table on one (`make test-gpu`)."""

import dataclasses
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastpipe import kernels
from fastpipe.device import Params
from fastpipe.device.draws.draw import ErasingParams
from fastpipe.device.engines import cuda
from fastpipe.device.engines.cuda import CudaEngine
from fastpipe.device.engines.cuda_selfcheck import _check_params, _check_sizes_and_mixes, differences
from fastpipe.device.engines.eager import TorchEngine
from fastpipe.device.engines.fused import FusedEngine
from fastpipe.device.engines.make import engine_note, make_engine
from fastpipe.device.engines.protocol import Output
from fastpipe.errors import ArgumentError
from fastpipe.extras import install_command
from fastpipe.kernels.tolerance import disagreement

GPU = torch.device("cuda", 0)
TABLE = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def on_cpu(images, params, output):
    engine = FusedEngine()
    if params.ops is not None:
        images = engine.augment(images, params)
    return engine.finish(images, params, output)


def test_without_numba_cuda_torch_serves_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cuda, "missing_for_cuda", lambda: "pip install numba-cuda")
    assert isinstance(make_engine("fused", GPU), TorchEngine)
    assert engine_note("fused", GPU) == "torch (fused on CUDA needs: pip install numba-cuda)"


@pytest.mark.parametrize(("version", "extra"), [("12.6", "cuda12"), ("13.0", "cuda"), (None, "cuda")])
def test_the_extra_is_the_one_of_torchs_cuda(monkeypatch, version, extra):
    monkeypatch.setattr("fastpipe.kernels.cuda.compile.missing_package", lambda: "numba-cuda")
    monkeypatch.setattr(torch.version, "cuda", version)
    assert cuda.missing_for_cuda() == install_command(extra)


def test_with_numba_cuda_the_kernels_serve(monkeypatch):
    monkeypatch.setattr(cuda, "missing_for_cuda", lambda: None)
    assert isinstance(make_engine("fused", GPU), CudaEngine)
    assert engine_note("fused", GPU) == "fused"
    assert isinstance(make_engine("fused", torch.device("cpu")), FusedEngine)
    assert isinstance(make_engine("torch", GPU), TorchEngine)
    assert "not on mps" in engine_note("fused", torch.device("mps"))


@pytest.fixture
def recorded(monkeypatch):
    """The operations that an engine calls, on fake tensors of a GPU that is not there."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    names = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "fastpipe":
                names.append(func._schema.name.removeprefix("fastpipe::"))
            return func(*args, **(kwargs or {}))

    def fake_moved(self, numbers):
        dtype = torch.int32 if isinstance(numbers, np.ndarray) else numbers.dtype
        return torch.empty(numbers.shape, dtype=dtype, device="cuda")

    monkeypatch.setattr(CudaEngine, "_moved", fake_moved)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda device: SimpleNamespace(synchronize=lambda: None)
    )
    with FakeTensorMode(allow_non_fake_inputs=True), Recorder():
        yield names


PASSES = {
    "ColOut": ["picked"],
    "ColOut and MixUp": ["fused", "mix_"],
    "ColOut, nearest resize and CutMix": ["fused", "picked", "mix_"],
    "bilinear resize": ["resized", "erase_boxes_"],
    "enlarged, MixUp": ["fused", "resized", "mix_"],
    "erasing, MixUp": ["mix_"],
    "erasing, CutMix": ["picked", "erase_boxes_", "mix_"],
}


@pytest.mark.parametrize("name", PASSES)
def test_the_passes_of_a_batch_and_what_torch_knows_of_the_result(recorded, name):
    """One read and one write where one is enough, and nothing left to the torch engine."""
    params = dict(_check_sizes_and_mixes(4, 64, 72))[name]
    output = Output(dtype=torch.bfloat16, memory_format=torch.channels_last, table=TABLE)
    engine = CudaEngine(GPU, check=False)
    images = torch.empty((4, 64, 72, 3), dtype=torch.uint8, device="cuda")
    assert engine.augment(images, params) is images
    out = engine.finish(images, params, output)
    height, width = 64, 72
    if params.colout is not None:
        height, width = len(params.colout.rows), len(params.colout.columns)
    if params.resize is not None:
        height, width = params.resize.height, params.resize.width
    assert out.shape == (4, 3, height, width) and out.dtype == torch.bfloat16
    assert out.device.type == "cuda" and out.is_contiguous(memory_format=torch.channels_last)
    assert recorded == PASSES[name]


def test_images_that_are_not_contiguous_are_copied_once_and_said_so(recorded, caplog):
    engine = CudaEngine(GPU, check=False)
    output = Output(dtype=torch.float16, memory_format=torch.channels_last, table=TABLE)
    images = torch.empty((4, 3, 64, 72), dtype=torch.uint8, device="cuda").permute(0, 2, 3, 1)
    with caplog.at_level(logging.DEBUG, logger="fastpipe"):
        engine.finish(images, Params(), output)
    assert [r.message for r in caplog.records] == ["images are not contiguous: copied once (55296 bytes)"]
    assert recorded == ["fused"]


def test_a_default_device_of_the_script_moves_no_table():
    """On another device the table could not be pinned; "meta" stands for a GPU."""
    output = Output(dtype=torch.uint8, memory_format=torch.contiguous_format, table=None)
    torch.set_default_device("meta")
    try:
        norm = CudaEngine(torch.device("cpu"), check=False)._norm(output)
    finally:
        torch.set_default_device(None)
    assert norm.tolist() == [*range(256)] * 3


def test_mixing_levels_is_refused(recorded):
    params = dict(_check_sizes_and_mixes(4, 64, 72))["erasing, MixUp"]
    output = Output(dtype=torch.uint8, memory_format=torch.channels_last, table=None)
    images = torch.empty((4, 64, 72, 3), dtype=torch.uint8, device="cuda")
    with pytest.raises(ArgumentError, match="need a float pipeline"):
        CudaEngine(GPU, check=False).finish(images, dataclasses.replace(params, erasing=None), output)


def test_the_check_accepts_the_cpu_kernels_themselves():
    assert differences(on_cpu, torch.device("cpu")) == ""


@pytest.mark.parametrize("mode", [0, 1])
def test_the_check_has_every_operation_flipped_and_not(mode):
    """A warp that forgets the flip went through: none of the warps that came first was flipped."""
    params = _check_params(mode, 24, 64, 72)
    seen = {(int(first), bool(flip)) for first, flip in zip(params.ops.ops[:, 0], params.flip, strict=True)}
    assert seen == {(code, flip) for code in kernels.OPS.values() for flip in (True, False)}


@pytest.mark.parametrize(("step", "share"), [(1, 0.01), (2, 1e-5)], ids=["too many", "too far"])
def test_the_check_finds_bilinear_beyond_its_tolerance(step, share):
    def wrong(images, params, output):
        out = on_cpu(images, params, output)
        if (params.ops.interpolations == 1).all():
            flat = out.view(-1) if out.is_contiguous() else out.permute(0, 2, 3, 1).view(-1)
            flat[: max(int(share * flat.numel()), 1)] += step
        return out

    assert "bilinear warps" in differences(wrong, torch.device("cpu"))


def test_the_check_finds_one_wrong_byte_where_bytes_must_be_equal():
    def wrong(images, params, output):
        out = on_cpu(images, params, output)
        out.view(-1)[5] += 1
        return out

    assert "1 of" in differences(wrong, torch.device("cpu"))


@pytest.mark.gpu
def test_the_engine_agrees_with_the_cpu_on_this_gpu():
    assert differences(CudaEngine(GPU, check=False)._finish, GPU) == ""


@pytest.mark.gpu
@pytest.mark.parametrize("mode", [0, 1], ids=["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (9, 1), (31, 17), (16, 48), (224, 224)], ids=str)
def test_parity_on_this_gpu(mode, dtype, layout, shape):
    """Every operation, flipped and not, two in a row: equal bytes; bilinear as `tolerance` says."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (48, *shape, 3), dtype=np.uint8))
    params = _check_params(mode, 48, *shape)
    output = Output(dtype=dtype, memory_format=layout, table=None if dtype == torch.uint8 else TABLE)
    ours = CudaEngine(GPU, check=False)._finish(images.to(GPU), params, output).cpu()
    expected = on_cpu(images, params, output)
    assert ours.is_contiguous(memory_format=layout)
    assert disagreement(ours, expected, tolerant=mode == 1, table=output.table) == ""


@pytest.mark.gpu
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_flip_and_erasing_on_this_gpu(layout):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 33, 36, 3), dtype=np.uint8))
    boxes = np.array([[i, 2 * i, 5 + i, 7] for i in range(6)])
    erasing = ErasingParams(boxes=boxes, apply=np.arange(6) % 2 == 0, value=(0.5, -1.0, 2.0))
    params = Params(flip=np.arange(6) % 3 == 0, erasing=erasing)
    output = Output(dtype=torch.float16, memory_format=layout, table=TABLE)
    ours = CudaEngine(GPU, check=False)._finish(images.to(GPU), params, output).cpu()
    assert torch.equal(ours, on_cpu(images, params, output))


@pytest.mark.gpu
def test_a_side_stream_and_a_fresh_thread_give_the_same_bytes():
    """Launches follow torch's current stream, and a thread that has never used CUDA may be the first."""
    from concurrent.futures import ThreadPoolExecutor

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8))
    params = _check_params(0, 64, 64, 64)
    output = Output(dtype=torch.float32, memory_format=torch.channels_last, table=TABLE)
    engine, expected = CudaEngine(GPU, check=False), on_cpu(images, params, output)

    def once(_):
        with torch.cuda.stream(torch.cuda.Stream(GPU)):
            return engine._finish(images.to(GPU), params, output).cpu()

    with ThreadPoolExecutor(2) as pool:
        for ours in pool.map(once, range(20)):
            assert torch.equal(ours, expected)


@pytest.mark.gpu
def test_torch_compile_sees_the_operation():
    from fastpipe.kernels.cuda.ops import fused
    from fastpipe.kernels.cuda.plan import make_plan

    plan = make_plan((2, 8, 8, 3), None, None, None, None, None, np.array([True, False]))
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8, device=GPU)
    numbers, norm = torch.from_numpy(plan.numbers).to(GPU), TABLE.reshape(-1).to(GPU)

    def model(pictures):
        return fused(pictures, numbers, norm, plan.header, True) * 2

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images), rtol=0, atol=0)


CHANGED = ["colout", "resize", "mix"]


@pytest.mark.parametrize("part", CHANGED)
def test_the_check_finds_a_step_that_is_left_out(part):
    """Silently left out, it would be wrong pixels with every other check green."""

    def wrong(images, params, output):
        expected = on_cpu(images, params, output)
        without = on_cpu(images, dataclasses.replace(params, **{part: None}), output)
        return without if without.shape == expected.shape else torch.zeros_like(expected)

    assert "differ" in differences(wrong, torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name, _ in _check_sizes_and_mixes(2, 64, 72)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_sizes_and_mixes_on_this_gpu(name, dtype, layout):
    """ColOut, resize, MixUp and CutMix in a batch of a training's size: equal bytes."""
    params = dict(_check_sizes_and_mixes(32, 176, 180))[name]
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (32, 176, 180, 3), dtype=np.uint8))
    output = Output(dtype=dtype, memory_format=layout, table=TABLE)
    ours = CudaEngine(GPU, check=False)._finish(images.to(GPU), params, output).cpu()
    assert ours.is_contiguous(memory_format=layout)
    assert torch.equal(ours, on_cpu(images, params, output))


@pytest.mark.gpu
def test_torch_checks_the_operations_on_this_gpu():
    """Schemas, fakes and tracing, by torch's own check."""
    from fastpipe.kernels import mix_shares
    from fastpipe.kernels.cuda.finish_plan import filters, finish_numbers

    images = torch.randint(0, 256, (2, 8, 12, 3), dtype=torch.uint8, device=GPU)
    numbers = torch.tensor(finish_numbers(2, 8, 12)).to(GPU)
    norm, shares = TABLE.reshape(-1).to(GPU), mix_shares(TABLE, (0.0, 0.0, 0.0), 0.25).to(GPU)
    tables = [torch.tensor(filters(old, new)).to(GPU) for old, new in ((8, 5), (12, 7))]
    ops, out = torch.ops.fastpipe, torch.zeros((2, 3, 8, 12), device=GPU)
    torch.library.opcheck(ops.picked.default, (images, numbers, norm, 8, 12, True))
    torch.library.opcheck(ops.resized.default, (images, numbers, norm, *tables, 8, 12, False))
    torch.library.opcheck(ops.mix_.default, (out, images, numbers, shares, [0, 0, 8, 12]))
