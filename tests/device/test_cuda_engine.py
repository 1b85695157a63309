"""The fused engine on CUDA: choice and fallback without a GPU, the parity table on one (`make test-gpu`)."""

import ctypes.util

import numpy as np
import pytest
import torch

from fastpipe import kernels
from fastpipe.device import Params, cuda
from fastpipe.device.cuda import CudaEngine, _check_params, differences
from fastpipe.device.draw import ErasingParams
from fastpipe.device.engines import FusedEngine, Output, TorchEngine, engine_note, make_engine

GPU = torch.device("cuda", 0)
TABLE = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def on_cpu(images, params, output):
    engine = FusedEngine()
    if params.ops is not None:
        images = engine.augment(images, params)
    return engine.finish(images, params, output)


def test_without_numba_cuda_torch_serves_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cuda, "missing_for_cuda", lambda: "pip install 'fastpipe[cuda]'")
    assert isinstance(make_engine("fused", GPU), TorchEngine)
    assert engine_note("fused", GPU) == "torch (fused on CUDA needs: pip install 'fastpipe[cuda]')"


def test_with_numba_cuda_the_kernels_serve(monkeypatch):
    monkeypatch.setattr(cuda, "missing_for_cuda", lambda: None)
    assert isinstance(make_engine("fused", GPU), CudaEngine)
    assert engine_note("fused", GPU) == "fused"
    assert isinstance(make_engine("fused", torch.device("cpu")), FusedEngine)
    assert isinstance(make_engine("torch", GPU), TorchEngine)
    assert "not on mps" in engine_note("fused", torch.device("mps"))


def test_the_check_accepts_the_cpu_kernels_themselves():
    assert differences(on_cpu, torch.device("cpu")) == ""


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


@pytest.mark.parametrize(
    "problem", [RuntimeError("no kernel image"), OSError("libcuda.so.1: cannot open"), "9 of 99 bytes differ"]
)
def test_a_failed_check_warns_once_and_torch_serves(monkeypatch, problem):
    def check(finish, device):
        if isinstance(problem, str):
            return problem
        raise problem

    monkeypatch.setattr(cuda, "differences", check)
    engine = CudaEngine(torch.device("cpu"))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 9, 12, 3), dtype=np.uint8))
    params = _check_params(0, 24, 9, 12)
    output = Output(dtype=torch.float16, memory_format=torch.channels_last, table=TABLE)
    with pytest.warns(RuntimeWarning, match="engine='torch' serves"):
        augmented = engine.augment(images, params)
    assert torch.equal(engine.finish(augmented, params, output), on_cpu(images, params, output))


@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="a CUDA driver is installed here")
def test_without_a_driver_the_real_check_ends_in_the_fallback():
    engine = CudaEngine(torch.device("cpu"))
    with pytest.warns(RuntimeWarning, match="engine='torch' serves"):
        engine.augment(torch.zeros((1, 8, 8, 3), dtype=torch.uint8), _check_params(0, 1, 8, 8))


@pytest.mark.gpu
def test_the_engine_agrees_with_the_cpu_on_this_gpu():
    assert differences(CudaEngine(GPU, check=False)._finish, GPU) == ""


@pytest.mark.gpu
@pytest.mark.parametrize("mode", [0, 1], ids=["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (9, 1), (31, 17), (16, 48), (224, 224)], ids=str)
def test_parity_on_this_gpu(mode, dtype, layout, shape):
    """Every operation, flipped and not, two in a row: equal bytes; bilinear within contract 6."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (48, *shape, 3), dtype=np.uint8))
    params = _check_params(mode, 48, *shape)
    output = Output(dtype=dtype, memory_format=layout, table=None if dtype == torch.uint8 else TABLE)
    ours = CudaEngine(GPU, check=False)._finish(images.to(GPU), params, output).cpu()
    expected = on_cpu(images, params, output)
    assert ours.is_contiguous(memory_format=layout)
    differ = int((ours != expected).sum())
    assert differ <= (5e-4 * ours.numel() if mode else 0)


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
    from fastpipe.kernels.cuda_ops import fused
    from fastpipe.kernels.cuda_plan import make_plan

    plan = make_plan((2, 8, 8, 3), None, None, None, None, None, np.array([True, False]))
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8, device=GPU)
    numbers, norm = torch.from_numpy(plan.numbers).to(GPU), TABLE.reshape(-1).to(GPU)

    def model(pictures):
        return fused(pictures, numbers, norm, plan.header, True) * 2

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images), rtol=0, atol=0)


@pytest.mark.parametrize("part", ["colout", "mix"])
def test_steps_without_cuda_kernels_go_to_the_torch_engine(part: str) -> None:
    """Silently left out, they would be wrong pixels with every check green."""
    engine = CudaEngine(torch.device("cpu"), check=False)
    assert engine._instead(Params()) is None
    drawn = Params(**{part: object()})
    assert isinstance(engine._instead(drawn), TorchEngine)
