"""--wandb, with a module in W&B's place that keeps what it is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor

from fastpipe.train.cli import main
from fastpipe.train.step import Updater

SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "4"),
    *("--num-workers", "0", "--backend", "torchvision", "--epochs", "2", "--optimizer.lr", "0.02"),
)


class FakeRun:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.id = given, given["id"] or "abc123"
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """What wandb.init returned, one after the other."""
    made: list[FakeRun] = []

    def init(**given: Any) -> FakeRun:
        if given["project"] == "forbidden":
            raise ValueError("no key")
        made.append(FakeRun(given))
        return made[-1]

    fake = ModuleType("wandb")
    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return made


@pytest.fixture(scope="module")
def splits(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("splits")
    for split in ("train", "val"):
        (root / split).symlink_to(photos)
    return root


def _args(splits: Path, folder: Path, project: str = "photos") -> list[str]:
    return [*SMALL, "--data", str(splits), "--output-dir", str(folder), "--wandb", project]


def test_wandb_gets_every_number_of_metrics_jsonl_and_the_summary(
    splits: Path, tmp_path: Path, runs: list[FakeRun]
) -> None:
    assert main(_args(splits, tmp_path / "run")) == 0
    (run,) = runs
    assert (run.given["project"], run.given["name"]) == ("photos", "run")
    assert run.given["config"]["optimizer"]["lr"] == 0.02 and run.given["resume"] is None
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert run.logged == [
        (
            line["step"],
            {
                f"{line['kind']}/{name}": value
                for name, value in line.items()
                if name not in ("kind", "step") and value is not None
            },
        )
        for line in lines
    ]
    steps = [step for step, _ in run.logged]
    assert steps == sorted(steps)  # W&B drops a step below the last one
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert run.summary["top1"] == summary["top1"] and "per_class" not in run.summary
    assert run.exit_code == 0


def test_a_resumed_run_goes_on_in_the_same_curves_and_a_failed_one_says_so(
    splits: Path, tmp_path: Path, runs: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Updater.train_step

    def killed(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        if self.step == 4:
            raise OSError("killed")
        return train_step(self, images, labels)

    monkeypatch.setattr(Updater, "train_step", killed)
    assert main(_args(splits, tmp_path / "run")) == 1
    monkeypatch.setattr(Updater, "train_step", train_step)
    assert main([*_args(splits, tmp_path / "run"), "--resume", "auto"]) == 0
    first, second = runs
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert (second.given["id"], second.given["resume"]) == (first.id, "allow")


def test_without_wandb_the_command_is_printed_before_anything_is_made(
    splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(_args(splits, tmp_path / "run")) == 2
    assert "pip install wandb" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_wandb_refuses_is_said_with_the_remedy(
    splits: Path, tmp_path: Path, runs: list[FakeRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_args(splits, tmp_path / "run", "forbidden")) == 2
    said = capsys.readouterr().err
    assert "--wandb 'forbidden'" in said and "no key" in said and "WANDB_MODE=offline" in said
