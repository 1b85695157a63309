"""--seeds and --extrapolate-from: the spread of several runs, and what part of a run says of the whole."""

from __future__ import annotations

import json
import signal
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.train.cli import main
from fastpipe.train.seeds import seeds_line, spread
from fastpipe.train.step import Updater

SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8"),
    *("--num-workers", "0", "--backend", "torchvision", "--optimizer.lr", "0.02"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for label in range(6):  # six classes, so that top-5 says something
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3)) + 25 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


def _args(photos: Path, folder: Path, *more: str) -> list[str]:
    return [*SMALL, "--data", str(photos), "--output-dir", str(folder), *more]


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def three(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds from 7, of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "three"
    assert main(_args(photos, folder, "--epochs", "2", "--seed", "7", "--seeds", "3")) == 0
    return folder


def test_mean_and_spread_are_those_of_the_runs(three: Path) -> None:
    results = _read(three / "seeds.json")
    assert results["seeds"] == [7, 8, 9]
    assert [run["folder"] for run in results["runs"]] == ["seed-7", "seed-8", "seed-9"]
    for name in ("top1", "top5", "time_to_train_s"):
        values = [_read(three / f"seed-{seed}" / "summary.json")[name] for seed in (7, 8, 9)]
        assert results["statistics"][name] == {
            "mean": pytest.approx(statistics.mean(values)),
            "standard_deviation": pytest.approx(statistics.stdev(values)),
            "minimum": min(values),
            "maximum": max(values),
        }
    assert len({tuple(_losses(three / f"seed-{seed}")) for seed in (7, 8, 9)}) == 3


def _losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def test_each_seed_is_the_run_of_that_seed(three: Path, photos: Path, tmp_path: Path) -> None:
    """Nothing of the run before it is left: the second one equals a run by itself, bit for bit."""
    assert main(_args(photos, tmp_path / "alone", "--epochs", "2", "--seed", "8")) == 0
    alone, second = (
        torch.load(folder / "last.ckpt", weights_only=True)
        for folder in (tmp_path / "alone", three / "seed-8")
    )
    for name, value in alone["model"].items():
        assert torch.equal(value, second["model"][name]), name
    assert _losses(tmp_path / "alone") == _losses(three / "seed-8")


def test_a_folder_of_seeds_is_continued_and_not_overwritten(
    three: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _read(three / "seeds.json")
    own = _args(photos, three, "--epochs", "2", "--seed", "7")
    assert main([*own, "--seeds", "3"]) == 2
    assert "holds runs of the seeds [7, 8, 9]" in capsys.readouterr().err
    assert main([*own, "--seeds", "2", "--resume", "auto"]) == 2
    assert "this command asks for [7, 8]" in capsys.readouterr().err
    assert _read(three / "seeds.json") == before
    assert main([*own, "--seeds", "3", "--resume", "auto"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("resumed from") == 3 and shown.splitlines()[-1] == seeds_line(before)
    assert _read(three / "seeds.json") == before


def test_stopped_in_its_second_seed_and_resumed_is_the_same(
    three: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Updater.train_step

    def interrupted(self: Updater, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if (self.config.seed, self.step) == (8, 1):
            signal.raise_signal(signal.SIGTERM)
        return train_step(self, images, labels)

    args = _args(photos, tmp_path / "runs", "--epochs", "2", "--seed", "7", "--seeds", "3")
    monkeypatch.setattr(Updater, "train_step", interrupted)
    assert main(args) == 143
    monkeypatch.setattr(Updater, "train_step", train_step)
    assert [run["seed"] for run in _read(tmp_path / "runs" / "seeds.json")["runs"]] == [7]
    assert main([*args, "--resume", "auto"]) == 0
    for name in ("top1", "top5"):
        one, two = (_read(folder / "seeds.json")["statistics"][name] for folder in (three, tmp_path / "runs"))
        assert one == two
    for seed in (7, 8, 9):
        assert _losses(three / f"seed-{seed}") == _losses(tmp_path / "runs" / f"seed-{seed}")


def test_quiet_prints_the_last_line_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one run, of several, and of one that ended in an error, which is printed."""
    one = _args(photos, tmp_path / "one", "--epochs", "1", "--grad-clip", "1e9", "--quiet")
    assert main(one) == 0  # the clipping has no effect, and a warning would fail here
    shown = capsys.readouterr()
    assert shown.out.startswith("top-1 ") and shown.out.count("\n") == 1 and shown.err == ""
    assert main(_args(photos, tmp_path / "two", "--epochs", "1", "--seeds", "2", "--quiet")) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("2 seeds ") and shown.out.count("\n") == 1 and shown.err == ""
    assert main(one) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "already holds a run" in shown.err


def test_without_a_terminal_a_run_prints_plain_lines(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_args(photos, tmp_path / "run", "--epochs", "1")) == 0
    shown = capsys.readouterr().out
    assert "epoch 1/1  loss" in shown and not {"\x1b", "\r", "\u2501"} & set(shown)


def test_mistakes_leave_no_folder(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_args(photos, tmp_path / "runs", "--model", "resnet81", "--seeds", "2")) == 2
    assert "resnet81" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "last.ckpt").write_bytes(b"")
    assert main(_args(photos, tmp_path / "one", "--seeds", "2", "--resume", "auto")) == 2
    assert "holds a single run" in capsys.readouterr().err


def test_several_processes_are_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(_args(photos, tmp_path / "runs", "--seeds", "2")) == 2
    assert "Found: 2 processes" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_the_spread_of_what_is_missing_or_alone() -> None:
    assert spread([0.5, None]) is None
    assert spread([0.5]) == {"mean": 0.5, "minimum": 0.5, "maximum": 0.5}


def test_a_part_of_a_run_says_what_the_whole_would_take_and_can_be_finished(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alike = ("--epochs", "4", "--progressive-resizing", "null", "--price-per-hour", "36", "--watts", "1000")
    part = _args(photos, tmp_path / "part", *alike)
    assert main([*part, "--extrapolate-from", "2"]) == 0
    shown, summary = capsys.readouterr().out, _read(tmp_path / "part" / "summary.json")
    found = summary["extrapolation"]
    assert (summary["epochs"], found["measured_epochs"], found["extrapolated_epochs"]) == (2, 2, 4)
    assert summary["time_to_train_s"] == found["measured_time_to_train_s"]
    assert found["extrapolated_time_to_train_s"] == pytest.approx(2 * summary["time_to_train_s"], abs=0.002)
    assert summary["cost"] == pytest.approx(summary["wall_s"] / 100, abs=1e-5)
    assert summary["energy_kwh"] == pytest.approx(summary["wall_s"] / 3600, abs=1e-5)
    assert "only the first 2 of 4 epochs are trained" in shown
    assert "extrapolated (our formula) to 4:" in shown.splitlines()[-1]
    # The schedule is that of the whole, so the part can be continued to its end.
    assert main([*part, "--resume", "auto"]) == 0
    assert main(_args(photos, tmp_path / "whole", *alike)) == 0
    assert _losses(tmp_path / "part") == _losses(tmp_path / "whole")
    whole = _read(tmp_path / "part" / "summary.json")
    assert whole["epochs"] == 4 and "extrapolation" not in whole
    assert whole["wall_s"] > summary["wall_s"]
    capsys.readouterr()
    assert main([*part, "--resume", "auto", "--extrapolate-from", "2"]) == 2
    assert "has 4 epochs, and --extrapolate-from 2 ends earlier" in capsys.readouterr().err
