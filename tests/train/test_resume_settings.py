"""What may change on resume without changing what is trained takes effect: where, how and how safely."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.train import runner
from fastpipe.train.cli import main
from fastpipe.train.loop import Trainer

CLASSES = ("red", "green")
STOPPED_AT, STEPS = 5, 12  # three epochs of four steps


def _photos(root: Path) -> Path:
    """Two classes of noise on red or green: 16 and 5 of each for training and validation."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 5)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.jpg")
    return root


def _args(photos: Path, folder: Path, *more: str) -> list[str]:
    own = ("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8")
    fixed = ("--backend", "torchvision", "--num-workers", "0", "--progressive-resizing", "null")
    run = ("--epochs", "3", "--data", str(photos), "--output-dir", str(folder), "--resume", "auto")
    return [*own, *fixed, "--precision", "fp32", "--optimizer.lr", "0.02", *run, *more]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No quarantine list of another test, and none left behind."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def stopped(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was interrupted in its second epoch."""
    folder, train_step = tmp_path_factory.mktemp("stopped"), Trainer.train_step

    def interrupted(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.step == STOPPED_AT - 1:  # which is done still
            signal.raise_signal(signal.SIGINT)
        return train_step(self, images, labels)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train_step", interrupted)
        assert main(_args(photos, folder)) == 130
    return folder


class Seen:
    """What the steps of a resumed run had before them, and when it saved."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.status = folder, -1
        self.trainer: Any = None
        self.images: list[torch.Tensor] = []
        self.labels: list[list[int]] = []
        self.saved: list[int] = []

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        state: dict[str, Any] = torch.load(self.folder / "last.ckpt", weights_only=True)
        model: dict[str, torch.Tensor] = state["model"]
        return model


def _resumed(stopped: Path, folder: Path, data: Path, *more: str) -> Seen:
    """Continue a copy of the stopped run with other options."""
    seen, train_step, save = Seen(folder), Trainer.train_step, runner.save_checkpoint
    shutil.copytree(stopped, folder)

    def watched(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.trainer = self
        seen.images.append(images)
        seen.labels.append(labels.argmax(-1).tolist() if labels.ndim == 2 else labels.tolist())
        return train_step(self, images, labels)

    def saving(state: dict[str, Any], path: Path) -> None:
        seen.saved.append(state["step"])
        save(state, path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train_step", watched)
        patched.setattr(runner, "save_checkpoint", saving)
        seen.status = main(_args(data, folder, *more))
    return seen


Resume = Callable[..., Seen]


@pytest.fixture
def resume(stopped: Path, photos: Path, tmp_path: Path) -> Resume:
    """`resume(*options, data=...)` continues the stopped run, each time from where it was stopped."""
    numbers = itertools.count()

    def call(*more: str, data: Path = photos) -> Seen:
        return _resumed(stopped, tmp_path / f"run{next(numbers)}", data, *more)

    return call


@pytest.fixture(scope="module")
def unchanged(stopped: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    seen = _resumed(stopped, tmp_path_factory.mktemp("unchanged") / "run", photos)
    assert seen.status == 0 and len(seen.labels) == STEPS - STOPPED_AT
    assert _told(seen) == {}
    return seen


def _told(seen: Seen) -> dict[str, Any]:
    """What the run says was changed; each has a folder of its own, too."""
    told = {change["key"]: change["after"] for change in seen.summary()["changed_on_resume"]}
    assert told.pop("output_dir") == str(seen.folder)
    return told


def _convolution(seen: Seen) -> torch.Tensor:
    model: torch.nn.Module = seen.trainer.model
    return next(param for param in model.parameters() if param.ndim == 4 and param.shape[2] > 1)


def test_the_layout(unchanged: Seen, resume: Resume) -> None:
    seen = resume("--channels-last", "false")
    assert seen.status == 0 and _told(seen) == {"channels_last": False}
    for one, expected in ((unchanged, torch.channels_last), (seen, torch.contiguous_format)):
        for tensor in (one.images[0], _convolution(one)):
            assert tensor.is_contiguous(memory_format=expected)
    assert seen.labels == unchanged.labels


def test_the_workers(unchanged: Seen, resume: Resume) -> None:
    """The next batch is the next one, and the run's end the same bit for bit."""
    seen = resume("--num-workers", "1")
    assert seen.status == 0 and _told(seen) == {"num_workers": 1}
    assert (unchanged.trainer.loader.num_workers, seen.trainer.loader.num_workers) == (0, 1)
    assert seen.labels == unchanged.labels
    for name, weight in unchanged.weights().items():
        assert torch.equal(seen.weights()[name], weight), name


@pytest.mark.dali
def test_the_backend(unchanged: Seen, resume: Resume) -> None:
    pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
    seen = resume("--backend", "dali")
    assert seen.status == 0 and _told(seen) == {"backend": "dali"}
    assert (unchanged.summary()["backend"], seen.summary()["backend"]) == ("torchvision", "dali")
    assert seen.labels == unchanged.labels


def test_where_the_images_are(photos: Path, unchanged: Seen, resume: Resume, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    for path in moved.rglob("*.jpg"):
        Image.new("RGB", (48, 40)).save(path)
    seen = resume(data=moved)
    assert seen.status == 0 and _told(seen) == {"data": str(moved)}
    assert all(image.std() > 0 for image in unchanged.images[0])
    assert all(image.std((1, 2)).max() < 1e-5 for images in seen.images for image in images)
    assert seen.labels == unchanged.labels


def test_how_often_it_saves(unchanged: Seen, resume: Resume) -> None:
    seen = resume("--checkpoint-interval", "0.25ep")
    assert seen.status == 0 and _told(seen) == {"checkpoint_interval": "0.25ep"}
    assert sorted(set(unchanged.saved)) == [8, 12]
    assert sorted(set(seen.saved)) == [*range(6, 13)]


def test_whether_raw_weights_are_measured(unchanged: Seen, resume: Resume) -> None:
    """In the epochs before the last, where they are measured in any case."""
    seen = resume("--validate-raw", "true")
    assert seen.status == 0 and _told(seen) == {"validate_raw": True}
    measured = []
    for one in (unchanged, seen):
        lines = [json.loads(line) for line in (one.folder / "metrics.jsonl").read_text().splitlines()]
        measured.append([sum("raw" in key for key in line) for line in lines if line["kind"] == "epoch"])
    assert [epochs[1] for epochs in measured] == [0, measured[1][2]] and measured[1][2] > 0


def test_what_broken_images_do(
    photos: Path, resume: Resume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven of 32: more than --max-bad lets pass if nothing is said."""
    damaged = tmp_path / "damaged"
    shutil.copytree(photos, damaged)
    for number in range(7):
        path = damaged / "train" / "red" / f"{number:02d}.jpg"
        path.write_bytes(path.read_bytes()[:200])
    assert resume(data=damaged).status == 1
    assert "give --on-error skip or --on-error replace" in capsys.readouterr().err
    assert resume("--on-error", "replace", data=damaged).status == 1
    assert "--max-bad 0.01" in capsys.readouterr().err
    seen = resume("--on-error", "replace", "--max-bad", "0.5", data=damaged)
    assert seen.status == 0
    assert _told(seen) == {"data": str(damaged), "on_error": "replace", "max_bad": 0.5}
    assert seen.summary()["broken_samples"]["train"]["replaced"] >= 7
