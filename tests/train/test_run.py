"""Whole runs on a folder of small JPEGs: the run folder, the checkpoint, the mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.storage import Splits
from fastpipe.train.algorithms.progressive_resizing import ProgressiveSize
from fastpipe.train.cli import main
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.data import resolution_of, resolve_workers, steps_per_epoch
from fastpipe.train.loop import Trainer
from fastpipe.train.metrics.outcome import Outcome
from fastpipe.train.model import create_model
from fastpipe.train.output.folder import make_folder
from fastpipe.train.splits import open_indexes

TINY = ("--model", "resnet18", "--train-resolution", "64", "--num-workers", "1")


def _images(folder: Path, classes: tuple[str, ...], count: int, rng: np.random.Generator) -> None:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 100, (40, 48, 3))
            pixels[..., label] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.jpg")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, red and green; train 24, val 6, test 4 of each."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6), ("test", 4)):
        _images(root / split, ("red", "green"), count, rng)
    return root


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    args = ("--recipe", "mild", "--data", str(photos), "--epochs", "2", "--batch-size", "8", *TINY)
    assert main([*args, "--output-dir", str(folder)]) == 0
    return folder


def _lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def _points(folder: Path, kind: str) -> set[str]:
    """What TensorBoard was told of every step, or of every epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag.split("/")[1] for tag in events.Tags()["scalars"] if tag.startswith(f"{kind}/")}


def test_run_folder_holds_everything(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "summary.json", "last.ckpt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if name.endswith(".tmp")]


def test_summary(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert {"top1", "top1_raw", "epochs", "images_per_s", "data_wait_share", "time_to_train_s"} <= set(
        summary
    )
    assert summary["top5"] is None and summary["test_top5"] is None  # of two classes
    assert 0.0 < summary["validation_s"] < summary["wall_s"]
    assert sum(line["train_s"] for line in _lines(finished, "epoch")) < summary["wall_s"]
    assert (summary["epochs"], summary["steps"]) == (2, 12)
    assert 0.0 <= summary["top1"] <= 1.0 and summary["test_top1"] in [k / 8 for k in range(9)]
    assert set(summary["per_class"]) == {"validation", "test"}
    assert set(summary["per_class"]["test"]) == {"red", "green"}
    assert 0.0 < summary["data_wait_share"] < 1.0 and summary["images_per_s"] > 0.0
    assert summary["fit_to_data"]["optimizer.lr"] == [2.048, 0.008]
    assert "batch_size" not in summary["fit_to_data"]  # it was explicit
    assert "note" not in summary


def test_metrics_have_every_step_and_epoch(finished: Path) -> None:
    steps, epochs = _lines(finished, "step"), _lines(finished, "epoch")
    assert [line["step"] for line in steps] == list(range(12))
    size_of = ProgressiveSize(steps_per_epoch=6, total_steps=12, full_size=64)
    assert [line["resolution"] for line in steps] == [size_of(s // 6, s % 6) for s in range(12)]
    assert {line["resolution"] for line in steps} >= {32, 64}
    assert all(np.isfinite(line["loss"]) for line in steps)
    # At a step's end the clock is where the steps have brought it; the epoch's own end is a little later.
    for epoch in epochs:
        own = [line["step_s"] for line in steps if line["epoch"] == epoch["epoch"]]
        assert min(own) > 0.0 and sum(own) <= epoch["train_s"] + 0.001
    peaks = [line["peak_rss_mib"] for line in steps]
    assert peaks == sorted(peaks) and peaks[0] > 50.0  # torch alone takes more
    assert "peak_cuda_mib" not in steps[0] or torch.cuda.is_available()
    assert [line["epoch"] for line in epochs] == [0, 1]
    summary = json.loads((finished / "summary.json").read_text())
    assert epochs[-1]["top1"] == summary["top1"] and epochs[-1]["top5"] is None
    # The raw weights cost a second validation: after the last epoch alone.
    assert "top1_raw" not in epochs[0] and epochs[-1]["top1_raw"] == summary["top1_raw"]
    assert {"loss", "lr", "step_s", "peak_rss_mib"} <= _points(finished, "step")
    assert {"top1", "top1_raw", "validation_s"} <= _points(finished, "epoch")
    times = [line["train_s"] for line in epochs]
    assert summary["time_to_train_s"] == pytest.approx(2 * times[1], abs=0.01)


@pytest.mark.parametrize(("options", "validations"), [(("--validate-raw",), 4), (("--ema", "null"), 2)])
def test_raw_weights_after_every_epoch_and_one_validation_without_an_average(
    options: tuple[str, ...], validations: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[bool] = []

    def counted(self: Trainer, loader: Any, *, averaged: bool = True) -> Outcome:
        passes.append(averaged)
        return Outcome(counts=torch.tensor([[6, 3 if averaged else 2, 6]] * 2))

    monkeypatch.setattr(Trainer, "evaluate", counted)
    (tmp_path / "data").mkdir()
    for split in ("train", "val"):  # no test split, which is measured once more
        (tmp_path / "data" / split).symlink_to(photos / split)
    args = ("--data", str(tmp_path / "data"), "--epochs", "2", "--batch-size", "8", *TINY, *options)
    assert main([*args, "--output-dir", str(tmp_path / "run")]) == 0
    assert len(passes) == validations
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    epochs = _lines(tmp_path / "run", "epoch")
    if validations == 4:
        assert [line["top1_raw"] for line in epochs] == [pytest.approx(1 / 3)] * 2
        assert summary["top1_raw"] == pytest.approx(1 / 3)
    else:
        assert not any("top1_raw" in line for line in epochs)
        assert summary["top1_raw"] == summary["top1"] == 0.5


def test_saved_configuration_repeats_the_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = yaml.safe_load((finished / "config.yaml").read_text())
    assert saved["optimizer"]["lr"] == 0.008 and saved["fit_to_data"] is False
    assert saved["backend"] != "auto"
    assert main(["--recipe", str(finished / "config.yaml"), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == saved


def test_checkpoint_is_plain_complete_and_fits_the_model(finished: Path) -> None:
    state = torch.load(finished / "last.ckpt", weights_only=True)
    wanted = {"model", "ema", "optimizer", "schedule", "scaler", "loader", "rng", "step", "epoch", "config"}
    assert wanted <= set(state)
    assert (state["epoch"], state["step"], state["schedule"]["total_steps"]) == (2, 12, 12)
    model = create_model("resnet18", 2)
    model.load_state_dict(state["model"])
    model.load_state_dict(state["ema"])


def test_a_finished_folder_is_not_overwritten(
    finished: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "metrics.jsonl").read_bytes()
    args = ("--data", str(photos), "--epochs", "2", "--batch-size", "8", *TINY, "--output-dir", str(finished))
    assert main(args) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_resume_auto_of_a_finished_run_only_measures(
    finished: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top1 = json.loads((finished / "summary.json").read_text())["top1"]
    args = ("--data", str(photos), "--epochs", "2", "--batch-size", "8", *TINY, "--output-dir", str(finished))
    assert main([*args, "--resume", "auto"]) == 0
    assert "after epoch 2" in capsys.readouterr().out
    assert json.loads((finished / "summary.json").read_text())["top1"] == top1


def test_interrupted_and_resumed_equals_uninterrupted(
    finished: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C in the second epoch, then --resume auto: the same weights, averages and metrics, bit for bit."""
    args = ("--data", str(photos), "--epochs", "2", "--batch-size", "8", *TINY, "--output-dir", str(tmp_path))

    def interrupted(self: Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.step == 9:
            raise KeyboardInterrupt
        return train_step(self, images, labels)

    train_step = Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert main(args) == 130
    assert "--resume auto" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*args, "--resume", "auto"]) == 0
    one, two = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (finished, tmp_path))
    for part in ("model", "ema"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), (part, name)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(12))


def test_resume_with_another_model_says_so(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--data", str(photos), "--epochs", "3", "--batch-size", "8", *TINY)
    assert main([*args, "--output-dir", str(tmp_path / "b"), "--resume", str(finished / "last.ckpt")]) == 2
    assert "made with epochs 2, this run has 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--batch-size", "100"), "batch_size must be at most the number of training images (48)"),
        (("--model", "resnet81"), "Did you mean 'resnet"),
        (("--schedule.warmup-epochs", "50"), "schedule.warmup_epochs must not be longer than training"),
        (("--backend", "nonsense"), "backend"),
        (("--resume", "auto"), "--output-dir"),
    ],
)
def test_mistakes_stop_before_training(
    args: tuple[str, ...],
    message: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--data", str(photos), *TINY, *args]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_classes_in_validation(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    _images(tmp_path / "train", ("red", "green"), 2, rng)
    _images(tmp_path / "val", ("red", "blue"), 2, rng)
    assert main(["--data", str(tmp_path), *TINY]) == 1
    assert "classes" in capsys.readouterr().err
    with pytest.raises(ValueError, match="other classes"):
        open_indexes(Splits(train=tmp_path / "train", validation=tmp_path / "val"))


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    _images(tmp_path / "train", ("red",), 2, np.random.default_rng(1))
    with pytest.raises(ValueError, match="nothing to learn"):
        open_indexes(Splits(train=tmp_path / "train", validation=tmp_path / "train"))


def test_missing_data_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--data", str(tmp_path / "absent")]) != 0
    assert "absent" in capsys.readouterr().err


def test_folders_count_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (make_folder(None, "mild", resuming=False) for _ in range(2))
    assert first.name.endswith("-1") and second.name.endswith("-2") and first.parent.name == "runs"


def test_helpers_of_the_loaders() -> None:
    assert steps_per_epoch(100, 32) == 3
    with pytest.raises(ArgumentError, match="at most the number of training images"):
        steps_per_epoch(10, 32)
    assert 1 <= resolve_workers("auto") <= 8 and resolve_workers(0) == 0
    mild = load_recipe("mild")
    size_of = resolution_of(mild, 10)
    assert size_of is not None and (size_of(0, 0), size_of(35, 9)) == (88, 176)
    assert mild.progressive_resizing is not None
    assert resolution_of(replace(mild, progressive_resizing=None), 10) is None
    with pytest.warns(NoEffectWarning, match="no size changes"):
        resolution_of(
            replace(mild, progressive_resizing=replace(mild.progressive_resizing, initial_scale=1.0)), 10
        )


def test_a_run_that_stops_early_measures_the_average_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second epoch is no better; only the raw weights, which the summary names, are missing."""
    passes: list[bool] = []

    def counted(self: Trainer, loader: Any, *, averaged: bool = True) -> Outcome:
        passes.append(averaged)
        return Outcome(counts=torch.tensor([[6, 3 if averaged else 2, 6]] * 2))

    monkeypatch.setattr(Trainer, "evaluate", counted)
    (tmp_path / "data").mkdir()
    for split in ("train", "val"):
        (tmp_path / "data" / split).symlink_to(photos / split)
    args = ("--data", str(tmp_path / "data"), "--epochs", "4", "--batch-size", "8", *TINY)
    assert main([*args, "--early-stopping", "1", "--output-dir", str(tmp_path / "run")]) == 0
    assert passes == [True, True, False]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["top1"], summary["top1_raw"]) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    recorded = sum(line["validation_s"] for line in _lines(tmp_path / "run", "epoch"))
    assert summary["validation_s"] >= recorded - 0.002


def test_without_data_every_kind_of_list_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "mild"]) == 2
    assert "a list (.csv, .tsv, .jsonl, .ndjson or .parquet)" in capsys.readouterr().err
