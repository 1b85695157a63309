"""One training on every backend: the same losses to the bit, and the backend taken is the one recorded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from fastpipe.backends import registry
from fastpipe.choice import choose, probe
from fastpipe.train.cli import main

TINY = ("--model", "resnet18", "--train-resolution", "32", "--epochs", "1", "--batch-size", "4")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes, train 8 and val 2 of each, of every kind of file that backends decode apart."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        (".jpg", "RGB", {}),
        (".jpg", "L", {}),
        (".jpg", "RGB", {"progressive": True}),
        (".jpg", "CMYK", {}),
        (".png", "RGB", {}),
        (".jpg", "RGB", {"subsampling": 0}),
    )
    for split, count in (("train", 8), ("val", 2)):
        for label, name in enumerate(("ant", "bee")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 200, (44 + number, 60, 3), dtype=np.uint8) + np.uint8(40 * label)
                suffix, mode, options = kinds[number % len(kinds)]
                Image.fromarray(pixels).convert(mode).save(folder / f"{number}{suffix}", **options)
    return tmp_path / "photos"


def train(photos: Path, folder: Path, *arguments: str) -> list[float]:
    """The loss of every step of a run of Mild."""
    given = ("--recipe", "mild", "--data", str(photos), "--output-dir", str(folder), *TINY, *arguments)
    assert main(list(given)) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("turbo", marks=pytest.mark.turbo_built),
        pytest.param("ffcv", marks=pytest.mark.ffcv),
        pytest.param("dali", marks=pytest.mark.dali),
    ],
)
def test_every_backend_trains_alike(photos: Path, tmp_path: Path, backend: str) -> None:
    """Losses and accuracy to the bit: order, boxes, flips, operations and pixels are the same."""
    runs = {}
    for name in ("torchvision", backend):
        losses = train(photos, tmp_path / name, "--backend", name, "--num-workers", "1")
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        runs[name] = losses, summary["top1"], summary["per_class"]
        assert summary["backend"] == name
    assert len(runs[backend][0]) == 4
    assert runs[backend] == runs["torchvision"]


KILLED = """
import os, signal, sys
from fastpipe.train import cli
from fastpipe.train.loop import Trainer
labels, taken = Trainer._labels, 0
def killed(trainer, batch):
    global taken
    taken += 1
    if taken == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return labels(trainer, batch)
Trainer._labels = killed
cli.main(sys.argv[1:])
"""


@pytest.mark.turbo_built
@pytest.mark.parametrize("other", ["torchvision", "turbo"])
def test_killed_on_turbo_the_run_continues_with_the_next_sample(
    photos: Path, tmp_path: Path, other: str
) -> None:
    """kill -9 in mid-epoch, then another backend: the losses of a run that nobody interrupted."""
    whole = train(photos, tmp_path / "whole", "--backend", "torchvision", "--num-workers", "1")
    run = tmp_path / "run"
    given = ("--recipe", "mild", "--data", str(photos), "--output-dir", str(run), *TINY)
    given += ("--num-workers", "2", "--checkpoint-interval", "0.25ep")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *given, "--backend", "turbo"], capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    losses = train(photos, run, "--backend", other, "--num-workers", "1", "--resume", "auto")
    assert losses == whole


@pytest.mark.dali
def test_the_backend_that_was_measured_is_recorded(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the first of the registry, which is what `explain()` says before the first epoch."""

    def measured(backends: Any, job: Any, *, resolution: Any) -> probe.Rates:
        rates = {name: 900.0 if name == "dali" else 300.0 for name in backends}
        return probe.Rates(images_per_cpu_second=rates, failed={}, source="measured now")

    monkeypatch.delenv("FASTPIPE_NO_PROBE", raising=False)
    monkeypatch.setattr(probe, "PROBE_IMAGES", 1)
    monkeypatch.setattr(probe, "measure", measured)
    choose.forget_run()
    assert next(iter(registry.BACKENDS)) == "torchvision"
    train(photos, tmp_path / "run", "--backend", "auto", "--num-workers", "0")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["backend"] == "dali"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["backend"] == "dali"
