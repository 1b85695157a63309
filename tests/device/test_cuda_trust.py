"""Whether the fused engine may serve: errors are raised as what they are, and none counts as checked."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastpipe.device.draws.draw import Params
from fastpipe.device.engines import cuda, cuda_trust
from fastpipe.device.engines.cuda import CudaEngine
from fastpipe.device.engines.eager import TorchEngine
from fastpipe.device.engines.make import engine_note
from fastpipe.kernels.cuda import cache as cuda_cache
from fastpipe.kernels.cuda import ops as cuda_ops
from fastpipe.kernels.cuda.driver import Driver, DriverError

GPU = torch.device("cuda", 0)
OTHER = torch.device("cuda", 1)
IMAGES = torch.zeros((1, 8, 8, 3), dtype=torch.uint8)


@pytest.fixture(autouse=True)
def process_that_knows_nothing() -> Iterator[None]:
    cuda_trust.forget()
    yield
    cuda_trust.forget()


@pytest.fixture
def device_that_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A GPU whose driver and kernels come up; `checks` counts self-checks, `says` is what they find."""
    here = SimpleNamespace(checks=0, says="", name="H200", version=13000, kernels="abc")

    def differences(finish: Any, device: torch.device) -> str:
        here.checks += 1
        if isinstance(here.says, str):
            return here.says
        raise here.says

    monkeypatch.setattr(cuda, "differences", differences)
    monkeypatch.setattr(cuda, "missing_for_cuda", lambda: None)
    monkeypatch.setattr(Driver, "shared", lambda: SimpleNamespace(version=lambda: here.version))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(name=here.name, uuid=device.index)
    )
    monkeypatch.setattr(cuda_ops, "load_kernels", lambda device: None)
    monkeypatch.setattr(cuda_cache, "kernel_folder", lambda cc: tmp_path)
    monkeypatch.setattr(cuda_cache, "kernel_hash", lambda: here.kernels)
    return here


def ask(device: torch.device = GPU) -> Any:
    """The engine that serves instead of a new one, or None."""
    return CudaEngine(device)._ready()


def test_one_check_serves_all_engines_of_a_process_and_every_device_has_its_own(
    device_that_starts: SimpleNamespace,
) -> None:
    assert [ask(), ask(), ask(OTHER), ask(OTHER)] == [None] * 4
    assert device_that_starts.checks == 2


def test_a_check_that_went_well_is_remembered_for_the_next_process(
    device_that_starts: SimpleNamespace, tmp_path: Path
) -> None:
    ask()
    cuda_trust.forget()
    assert ask() is None and device_that_starts.checks == 1
    (record,) = tmp_path.glob("checked-*.json")
    facts = json.loads(record.read_text())
    assert facts["device"] == "H200" and facts["cuda_of_driver"] == "13000" and facts["kernels"] == "abc"


@pytest.mark.parametrize(("fact", "value"), [("name", "A100"), ("version", 13010), ("kernels", "abd")])
def test_another_device_driver_or_kernel_is_checked_anew(
    device_that_starts: SimpleNamespace, fact: str, value: Any
) -> None:
    ask()
    cuda_trust.forget()
    setattr(device_that_starts, fact, value)
    ask()
    assert device_that_starts.checks == 2


def test_a_failed_check_is_not_remembered(device_that_starts: SimpleNamespace, tmp_path: Path) -> None:
    device_that_starts.says = "9 of 99 bytes differ"
    with pytest.warns(RuntimeWarning, match="does not give the CPU kernels' pixels: 9 of 99 bytes differ"):
        assert isinstance(ask(), TorchEngine)
    assert not list(tmp_path.glob("checked-*"))
    assert engine_note("fused", GPU) == (
        "torch (fused does not give the CPU kernels' pixels: 9 of 99 bytes differ)"
    )


RAISED = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    DriverError("cuLaunchKernel", "an illegal memory access was encountered", 700),
    ImportError("no module named x"),
    KeyError("bilinear_16"),
    StopIteration(),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_an_error_of_the_check_is_raised_and_the_engine_stays_unchecked(
    device_that_starts: SimpleNamespace, error: Exception
) -> None:
    """Out of memory and a lost context are not wrong pixels; and the next call does not serve unchecked."""
    engine = CudaEngine(GPU)
    device_that_starts.says = error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(type(error)) as raised:
                engine.augment(IMAGES, Params())
            assert raised.value is error
    assert device_that_starts.checks == 2 and cuda_trust.known_doubt(GPU) is None
    device_that_starts.says = ""
    assert engine.augment(IMAGES, Params()) is IMAGES


def test_a_kernel_that_the_device_refuses_could_not_start(device_that_starts: SimpleNamespace) -> None:
    device_that_starts.says = DriverError("cuLaunchKernel", "too many resources requested for launch", 701)
    with pytest.warns(
        RuntimeWarning, match=r"cuda:0 could not start: CUDA error in cuLaunchKernel: too many"
    ):
        assert isinstance(ask(), TorchEngine)


STARTS = [
    (RuntimeError("numba-cuda could not compile the kernels"), "numba-cuda could not compile"),
    (OSError("disk full"), "disk full"),
    (
        DriverError("cuModuleLoadData", "the provided PTX was compiled with an unsupported toolchain", 222),
        "222",
    ),
]


@pytest.mark.parametrize(("error", "words"), STARTS, ids=["compile", "disk", "ptx"])
def test_could_not_start_is_told_from_pixels_that_differ(
    device_that_starts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def load(device: torch.device) -> None:
        raise error

    monkeypatch.setattr(cuda_ops, "load_kernels", load)
    with pytest.warns(RuntimeWarning, match=rf"could not start: .*{words}.*engine='torch' serves instead"):
        assert isinstance(ask(), TorchEngine)
    assert device_that_starts.checks == 0


@pytest.mark.parametrize("error", [RAISED[0], RAISED[2]], ids=["memory", "sticky"])
def test_memory_and_a_lost_context_are_raised_while_starting_too(
    device_that_starts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(device: torch.device) -> None:
        raise error

    monkeypatch.setattr(cuda_ops, "load_kernels", load)
    with pytest.raises(type(error)):
        ask()
    assert cuda_trust.known_doubt(GPU) is None


def test_without_a_driver_the_engine_could_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(Driver, "shared", absent)
    with pytest.warns(RuntimeWarning, match=r"could not start: OSError: libcuda\.so\.1"):
        assert isinstance(ask(), TorchEngine)


def test_warnings_as_errors_leave_the_engine_unchecked(device_that_starts: SimpleNamespace) -> None:
    device_that_starts.says = "9 of 99 bytes differ"
    engine = CudaEngine(GPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(RuntimeWarning, match="9 of 99"):
                engine.augment(IMAGES, Params())


def test_a_record_that_cannot_be_written_is_no_failure(
    device_that_starts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_cache, "kernel_folder", lambda cc: tmp_path / "absent")
    assert [ask(), ask()] == [None, None]
    assert device_that_starts.checks == 1, "this process remembers it by itself"


def test_the_fallback_gives_the_cpu_kernels_pixels(device_that_starts: SimpleNamespace) -> None:
    from fastpipe import kernels
    from fastpipe.device.engines.cuda_selfcheck import _check_params
    from fastpipe.device.engines.fused import FusedEngine
    from fastpipe.device.engines.protocol import Output

    device_that_starts.says = "9 of 99 bytes differ"
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 9, 12, 3), dtype=np.uint8))
    table = kernels.normalize_table((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    output = Output(dtype=torch.float16, memory_format=torch.channels_last, table=table)
    params, engine, cpu = _check_params(0, 24, 9, 12), CudaEngine(GPU), FusedEngine()
    with pytest.warns(RuntimeWarning, match="engine='torch' serves"):
        augmented = engine.augment(images, params)
    expected = cpu.finish(cpu.augment(images, params), params, output)
    assert torch.equal(engine.finish(augmented, params, output), expected)
