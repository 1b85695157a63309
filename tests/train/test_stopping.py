"""Signals, NaN, resuming at any step: a run that was cut off ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fastpipe.train.cli import main
from fastpipe.train.interval import parse_interval
from fastpipe.train.loop import Trainer
from fastpipe.train.pauses import Pauses
from fastpipe.train.step import Updater

EPOCHS, STEPS = 3, 4  # of 8 images
# SAM, MixUp, EMA every 3rd step, stochastic depth (torch's own generator) and sizes that grow with each step.
METHODS = (
    *("--recipe", "medium", "--stochastic-depth.drop-rate", "0.3", "--sam.interval", "3"),
    *(
        "--ema.update-interval",
        "3",
        "--ema.half-life-batches",
        "4",
        "--progressive-resizing.delay-fraction",
        "0.2",
    ),
    *("--model", "test_resnet", "--train-resolution", "64", "--epochs", str(EPOCHS), "--batch-size", "8"),
    *("--backend", "torchvision", "--schedule.warmup-epochs", "0.5", "--optimizer.lr", "0.02"),
)
# What differs from run to run.
TIMES = {"images_per_s", "data_wait_share", "train_s", "validation_s", "step_s", "peak_rss_mib"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise on red or green: 16 and 5 of each for training and validation."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 5)):
        for label, name in enumerate(("red", "green")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.jpg")
    return root


def _args(photos: Path, folder: Path, *more: str) -> list[str]:
    return [*METHODS, "--data", str(photos), "--output-dir", str(folder), *(more or ("--num-workers", "0"))]


@pytest.fixture(scope="module")
def straight(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    assert main(_args(photos, folder)) == 0
    return folder


def _signal_at(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real signal to this process, in the middle of the step after `step` steps."""
    train_step = Updater.train_step

    def interrupted(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        if self.step == step:
            signal.raise_signal(number)
        return train_step(self, images, labels)

    monkeypatch.setattr(Updater, "train_step", interrupted)


def _metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def _assert_equal(one: Any, two: Any, where: str) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            _assert_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for place, (a, b) in enumerate(zip(one, two, strict=True)):
            _assert_equal(a, b, f"{where}[{place}]")
    elif isinstance(one, Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


def _assert_same_run(one: Path, two: Path) -> None:
    states = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (one, two)]
    for state in states:  # whether the last epoch's workers were new: it decides nothing for a seeded order
        del state["loader"]["drew_base_seed"]
    for part in (
        "model",
        "ema",
        "optimizer",
        "schedule",
        "scaler",
        "loader",
        "rng",
        "step",
        "epoch",
        "skipped",
    ):
        _assert_equal(states[0][part], states[1][part], part)
    assert _metrics(one) == _metrics(two)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, two)]
    assert summaries[0]["top1"] == summaries[1]["top1"]


# The first step; in mid-epoch and mid-EMA; an epoch's last; one after; sizes growing; the last of all.
@pytest.mark.parametrize("step", [0, 1, 3, 4, 6, 9, 11])
def test_stopped_at_any_step_and_resumed_equals_undisturbed(
    step: int, straight: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _signal_at(step, signal.SIGTERM, monkeypatch)
    assert main(_args(photos, tmp_path)) == 143
    monkeypatch.undo()
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["step"] == step + 1  # the step was finished
    assert not (tmp_path / "summary.json").exists()
    assert main([*_args(photos, tmp_path), "--resume", "auto"]) == 0
    _assert_same_run(straight, tmp_path)


def test_stopped_twice_with_workers_and_from_the_previous_after_damage(
    straight: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = ("--num-workers", "1", "--checkpoint-interval", "0.25ep")
    for step in (2, 6):
        _signal_at(step, signal.SIGINT, monkeypatch)
        assert main([*_args(photos, tmp_path, *workers), "--resume", "auto"]) == 130
        monkeypatch.undo()
    newest = tmp_path / "last.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=r"Continuing from previous\.ckpt"):
        assert main([*_args(photos, tmp_path, *workers), "--resume", "auto"]) == 0
    _assert_same_run(straight, tmp_path)


def test_a_signal_in_validation_saves_and_the_epoch_is_measured_again(
    straight: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Trainer.evaluate

    def interrupted(self: Trainer, loader: Any, *, averaged: bool = True) -> Tensor:
        if self.step == 2 * STEPS:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self, loader, averaged=averaged)

    monkeypatch.setattr(Trainer, "evaluate", interrupted)
    assert main(_args(photos, tmp_path)) == 143
    monkeypatch.undo()
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (saved["epoch"], saved["epochs_measured"]) == (2, 1)
    assert main([*_args(photos, tmp_path), "--resume", "auto"]) == 0
    _assert_same_run(straight, tmp_path)


def test_killed_between_checkpoints_repeats_the_steps_since(
    straight: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signal handler, no saving: the run just ends, with lines in metrics.jsonl that run again."""
    train_step = Updater.train_step

    def killed(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        if self.step == 7:
            raise OSError("killed")
        return train_step(self, images, labels)

    monkeypatch.setattr(Updater, "train_step", killed)
    assert main(_args(photos, tmp_path, "--num-workers", "0", "--checkpoint-interval", "0.5ep")) == 1
    monkeypatch.undo()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["step"] == 6
    assert main([*_args(photos, tmp_path), "--resume", "auto"]) == 0
    _assert_same_run(straight, tmp_path)


def _poison(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    train_step = Updater.train_step

    def poisoned(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        return train_step(self, images * (float("nan") if self.step in steps else 1.0), labels)

    monkeypatch.setattr(Updater, "train_step", poisoned)


def test_a_nan_names_step_and_last_good_checkpoint(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _poison({6}, monkeypatch)
    assert main(_args(photos, tmp_path, "--num-workers", "0", "--checkpoint-interval", "0.25ep")) == 1
    said = capsys.readouterr().err
    assert "the loss became nan at step 6" in said and "after step 6" in said and "last.ckpt" in said
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["step"] == 6 and all(value.isfinite().all() for value in saved["model"].values())


def test_steps_that_are_not_finite_can_be_skipped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _poison({2, 5}, monkeypatch)  # the second one is of SAM
    args = _args(photos, tmp_path / "a", "--num-workers", "0", "--skip-nonfinite", "2")
    assert main(args) == 0
    assert "step 2 skipped: loss nan (1 of 2)" in capsys.readouterr().out
    saved = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)
    assert saved["skipped"] == 2 and all(value.isfinite().all() for value in saved["model"].values())
    steps = [line for line in _metrics(tmp_path / "a") if line["kind"] == "step"]
    assert [line["step"] for line in steps if line["loss"] is None] == [2, 5]
    assert main(_args(photos, tmp_path / "b", "--num-workers", "0", "--skip-nonfinite", "1")) == 1
    assert "1 such steps were already skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--model", "test_efficientnet"), "made with model 'test_resnet', this run has 'test_efficientnet'"),
        (("--batch-size", "4"), "made with batch_size 8, this run has 4"),
        (("--data", "OTHER"), "made with classes ['green', 'red'], this run has ['blue', 'red']"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    change: tuple[str, str],
    message: str,
    straight: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if change[0] == "--data":
        for split in ("train", "val"):
            for old, new in (("red", "red"), ("green", "blue")):
                (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
                (tmp_path / "data" / split / new).symlink_to(photos / split / old)
        change = ("--data", str(tmp_path / "data"))
    args = [*_args(photos, tmp_path / "run"), *change, "--stochastic-depth", "null"]
    assert main([*args, "--resume", str(straight / "last.ckpt")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_checkpoint_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*_args(photos, tmp_path / "run"), "--resume", str(tmp_path / "none.ckpt")]) == 1
    assert "none.ckpt' does not exist" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_interval_is_epochs_or_minutes() -> None:
    assert [step for step in range(1, 13) if parse_interval("0.4ep").due(step, 10)] == [4, 8, 12]
    assert [step for step in range(1, 9) if parse_interval("2ep").due(step, 2)] == [4, 8]
    seconds = [0.0]
    pauses = Pauses(parse_interval("10min"), steps_per_epoch=100, now=lambda: seconds[0])
    answers = []
    for step in range(1, 6):
        seconds[0] += 250.0
        answers.append(pauses.after_step(step))
        if answers[-1]:
            pauses.saved()
    assert answers == [False, False, True, False, False]
    for wrong in ("10", "ep", "0ep", "-1min", "5h"):
        with pytest.raises(ValueError, match="checkpoint_interval"):
            parse_interval(wrong)
