"""--device: where a run computes, and what is refused with what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.errors import ArgumentError
from fastpipe.storage import open_index
from fastpipe.train import data as data_module
from fastpipe.train.cli import main
from fastpipe.train.config.options import Options
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.data import eval_loader
from fastpipe.train.distributed import device_named
from fastpipe.train.launch import _check


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine with two GPUs; the list holds the ones made current."""
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    return current


@pytest.mark.parametrize(
    ("text", "found"),
    [(None, "cuda:0"), ("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_a_device_by_name_on_two_gpus(text: str | None, found: str, gpus: list[int]) -> None:
    device = torch.device(found)
    assert device_named(text) == device
    assert gpus == ([] if device.type == "cpu" else [device.index])


@pytest.mark.parametrize("text", ["mps", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"])
def test_another_word_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"--device must be auto, cpu, cuda, or cuda:N.*Found: '" + text):
        device_named(text)


def test_a_gpu_that_is_not_here_is_refused(gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"one of cuda:0 to cuda:1 here\. Found: 'cuda:2'"):
        device_named("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for text in ("cuda", "cuda:0"):
        with pytest.raises(ArgumentError, match=f"--device {text} needs a GPU.*Found: none"):
            device_named(text)
    assert device_named("auto") == torch.device("cpu") and gpus == []


def test_every_rank_has_its_own_gpu(gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_named("cuda") == torch.device("cuda:1")
    with pytest.raises(ArgumentError, match="--device must be cuda with several processes"):
        device_named("cuda:1")
    with pytest.raises(ArgumentError, match="--device must be auto, cpu or cuda with --nproc"):
        Options(device="cuda:1", nproc=2)
    with pytest.raises(ArgumentError, match=r"--nproc must be at most the number of GPUs here \(2\)"):
        monkeypatch.delenv("WORLD_SIZE")
        _check(3, on_cpu=False)
    _check(3, on_cpu=True)


def test_a_run_on_the_cpu_leaves_the_gpu_alone(
    photos: Path, gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader's own choice would be the current GPU."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(data_module, "DataLoader", lambda dataset, **settings: given.append(settings))
    config, index = load_recipe("mild"), open_index(photos)
    for device in (torch.device("cpu"), torch.device("cuda", 0), None):
        eval_loader(config, index, device=device)
    assert [settings["device"] for settings in given] == [torch.device("cpu"), None, None]


def test_the_command_names_what_is_wrong_before_anything_is_made(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--recipe", "mild", "--data", str(photos), "--output-dir", str(tmp_path / "run")]
    assert main([*run, "--device", "tpu"]) == 2
    assert "Found: 'tpu'" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main(["--evaluate", str(tmp_path / "x.pt"), "--data", str(photos), "--device", "tpu"]) == 2
    assert "Found: 'tpu'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["--predict", "--evaluate", "--report"])
def test_every_command_computes_and_loads_where_it_is_told(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model's device, and that of the loader, which would otherwise take the GPU."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(4):
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    run = tmp_path / "run"
    options = ("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--epochs", "2")
    small = ("--batch-size", "8", "--num-workers", "0", "--backend", "torchvision", "--ema", "null")
    steady = ("--progressive-resizing", "null")
    assert main([*options, *small, *steady, "--data", str(tmp_path / "data"), "--output-dir", str(run)]) == 0
    loaders: list[Any] = []
    make = data_module._loader

    def noted(*args: Any, **settings: Any) -> Any:
        loaders.append(args[4])
        return make(*args, **settings)

    monkeypatch.setattr(data_module, "_loader", noted)
    args = {
        "--predict": ["--predict", str(run / "last.ckpt"), str(tmp_path / "data" / "val")],
        "--evaluate": ["--evaluate", str(run / "last.ckpt"), "--data", str(tmp_path / "data")],
        "--report": ["--report", str(run)],
    }[command]
    assert main([*args, "--device", "cpu"]) == 0
    assert set(loaders) == {torch.device("cpu")}
    capsys.readouterr()
    assert main([*args, "--device", "tpu"]) == 2
    assert "--device must be auto, cpu, cuda" in capsys.readouterr().err
