"""Where batches go: the device of this rank, and what is said of devices on which `fused` cannot run."""

from __future__ import annotations

import warnings

import pytest
import torch

from fastpipe.device.engines import cuda
from fastpipe.device.engines.eager import TorchEngine
from fastpipe.device.engines.make import engine_note, make_engine
from fastpipe.device.place import resolve_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A machine with some GPUs, of which one is the current one."""
    here = {"count": 4, "current": 0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here["count"] > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here["count"])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: here["current"])
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return here


def test_a_rank_that_has_not_set_its_device_gets_its_own_and_is_told(
    gpus: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.warns(
        RuntimeWarning, match=r"LOCAL_RANK is 2.*batches go to cuda:2, its own.*set_device\(2\)"
    ):
        assert resolve_device(None) == torch.device("cuda", 2)


def test_more_ranks_than_gpus_are_told_where_batches_go(
    gpus: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "5")
    with pytest.warns(RuntimeWarning, match="batches go to cuda:0, the current one, since there are only 4"):
        assert resolve_device(None) == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("rank", "count", "current", "device", "expected"),
    [
        ("2", 4, 2, None, "cuda:2"),  # set_device was called
        ("2", 4, 1, None, "cuda:1"),  # with another number: the script's choice
        ("0", 4, 0, None, "cuda:0"),
        (None, 4, 0, None, "cuda:0"),
        ("2", 1, 0, None, "cuda:0"),  # CUDA_VISIBLE_DEVICES leaves each rank one
        ("2", 0, 0, None, "cpu"),
        ("2", 4, 0, "cuda", "cuda:0"),  # asked for: the current device, which torch's "cuda" is too
        ("2", 4, 0, "cuda:3", "cuda:3"),
        ("2", 4, 0, "cpu", "cpu"),
    ],
)
def test_in_all_other_cases_the_device_is_the_scripts_and_nothing_is_said(
    gpus: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    rank: str | None,
    count: int,
    current: int,
    device: str | None,
    expected: str,
) -> None:
    gpus.update(count=count, current=current)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_device(device) == torch.device(expected)


def test_on_rocm_torch_serves_and_nobody_is_told_to_install_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "missing_for_cuda", lambda: None)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    gpu = torch.device("cuda", 0)
    assert isinstance(make_engine("fused", gpu), TorchEngine)
    assert engine_note("fused", gpu) == (
        "torch (fused runs on NVIDIA GPUs, and this torch is built for AMD's (ROCm))"
    )


def test_on_mps_torch_serves_and_says_why() -> None:
    mps = torch.device("mps")
    assert isinstance(make_engine("fused", mps), TorchEngine)
    assert engine_note("fused", mps) == "torch (fused runs on the CPU and on NVIDIA GPUs, not on mps)"
