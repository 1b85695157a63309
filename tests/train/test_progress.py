"""What a run shows on a terminal and without one."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from fastpipe.system.output import CLOSED
from fastpipe.train import session
from fastpipe.train.cli import main
from fastpipe.train.hush import hush_launcher
from fastpipe.train.output.progress import Display, clock_text


def _shown(terminal: bool, *, quiet: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, highlight=False)
    with Display(console, quiet=quiet) as display:
        display.start_epoch(2, 8, 10)
        display.step(loss=1.2345, images_per_s=321.0, wait_share=0.25, resolution=64)
        display.end_epoch()
        display.line("epoch 3/8  [not markup] " + "x" * 200)
    return out.getvalue()


def test_terminal_shows_epoch_loss_rate_and_waiting() -> None:
    shown = _shown(terminal=True)
    for part in ("epoch 3/8", "1/10", "loss 1.234", "321 images/s", "data wait 25%", "64 px"):
        assert part in shown


def test_elsewhere_only_plain_lines() -> None:
    shown = _shown(terminal=False)
    assert shown == "epoch 3/8  [not markup] " + "x" * 200 + "\n"
    assert "\x1b" not in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_prints_only_how_it_ended(terminal: bool) -> None:
    assert _shown(terminal, quiet=True) == ""
    out = io.StringIO()
    Display(Console(file=out, force_terminal=terminal, highlight=False), quiet=True).last("top-1 0.5 [raw]")
    assert out.getvalue() == "top-1 0.5 [raw]\n"


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _bar_at(width: int, *, epochs: int = 36, steps: int = 1251) -> str:
    """What the terminal shows in the second epoch, after three of its steps of one second each."""
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=True, width=width, highlight=False, color_system="standard")
    with Display(console, now=clock) as display:
        display.start_epoch(0, epochs, steps)
        display.end_epoch()
        clock.seconds = 1800.0
        display.start_epoch(1, epochs, steps)
        for _ in range(3):
            clock.seconds += 1.0
            display.step(loss=6.9087, images_per_s=12345.6, wait_share=0.25, resolution=176)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip()][-1]


# 1,248 steps are left of this epoch, and 34 epochs of half an hour: 1,248 + 61,200 s.
@pytest.mark.parametrize("width", [60, 70, 80, 100, 120, 200])
def test_bar_and_both_times_are_there_at_every_width(width: int) -> None:
    line = _bar_at(width)
    assert len(line.rstrip()) <= width and "\u2026" not in line  # nothing is cut
    for part in ("epoch 2/36", "3/1251", "0:20:48 left, run 17:20:48"):
        assert part in line, line
    assert line.count("\u2501") + line.count("\u2578") + line.count("\u257a") >= 6  # the bar
    wanted = {60: 0, 70: 1, 80: 1, 100: 3, 120: 4, 200: 4}[width]
    facts = ("loss 6.909", "12346 images/s", "data wait 25%", "176 px")
    assert [fact in line for fact in facts[:wanted]] == [True] * wanted


def test_a_narrow_terminal_keeps_the_runs_time() -> None:
    assert "run 17:20:48" in _bar_at(50) and "left" not in _bar_at(50)


def test_times_in_the_first_epoch_and_behind_a_resumed_one() -> None:
    clock = Clock()
    display = Display(Console(quiet=True), now=clock)
    display.start_epoch(0, 4, 10)
    assert display._left() == (None, None)
    clock.seconds = 2.0
    display.step(loss=None, images_per_s=1.0, wait_share=0.0, resolution=32)
    assert display._left() == (18.0, 18.0 + 3 * 20.0)
    clock.seconds = 25.0  # with validation
    assert display.run_left() == "  left 0:01:15"
    resumed = Display(Console(quiet=True), now=clock)
    resumed.start_epoch(2, 4, 10, done=5)
    clock.seconds = 30.0
    resumed.step(loss=None, images_per_s=1.0, wait_share=0.0, resolution=32)
    assert resumed._left() == (20.0, 20.0 + 50.0)
    clock.seconds = 50.0  # half an epoch in 25 s
    assert resumed.run_left() == "  left 0:00:50"
    resumed.start_epoch(3, 4, 10)
    assert resumed._epoch_s is None and resumed.run_left() == ""  # the last one
    ends_early = Display(Console(quiet=True), now=clock)
    ends_early.start_epoch(0, 600, 10, last_epoch=2)
    clock.seconds = 60.0
    assert ends_early.run_left() == "  left 0:00:10"


def test_a_bar_goes_on_where_a_resumed_epoch_does() -> None:
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=True, width=100, highlight=False)) as display:
        display.start_epoch(0, 2, 10, done=5)
        display.step(loss=1.0, images_per_s=1.0, wait_share=0.0, resolution=32)
    assert " 6/10" in out.getvalue()


def test_clock() -> None:
    assert [clock_text(s) for s in (None, 0.4, 59.6, 3661, 360000)] == [
        *("-:--:--", "0:00:00", "0:01:00", "1:01:01", "100:00:00")
    ]


@pytest.mark.parametrize("lines_read", [0, 8])
def test_a_run_whose_reader_leaves_saves_and_stops(
    lines_read: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`| head`: before the first step, or with an epoch's line; --resume auto could go on."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("red", "green"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(8):
                pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.jpg")
    small = ("--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8", "--num-workers", "0")
    where = ("--data", str(tmp_path), "--output-dir", str(tmp_path / "run"), "--backend", "torchvision")
    reading, writing = os.pipe()
    shown = 0
    line = Display.line

    def counted(self: Display, text: str) -> None:
        nonlocal shown
        if shown == lines_read:
            os.close(reading)
        shown += 1
        line(self, text)

    monkeypatch.setattr(Display, "line", counted)
    with os.fdopen(writing, "w", encoding="utf-8") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        assert main([*small, *where, "--epochs", "3"]) == CLOSED
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.undo()
    if lines_read:
        assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epochs_measured"] == 1
    assert main([*small, *where, "--epochs", "3", "--resume", "auto"]) == 0


def test_the_launcher_is_hushed_below_its_parents_level(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """torch gives loggers below `torch.distributed.elastic` levels of their own."""
    parent, own = (logging.getLogger(f"torch.distributed.elastic{end}") for end in ("", ".of_a_test"))
    own.setLevel(logging.WARNING)
    monkeypatch.setattr(parent, "propagate", True)
    monkeypatch.setattr(parent, "handlers", [])
    monkeypatch.setenv("LOGLEVEL", "INFO")
    hush_launcher()
    own.error("asked for")
    monkeypatch.delenv("LOGLEVEL")
    monkeypatch.delenv("TORCH_LOGS", raising=False)
    hush_launcher()
    own.error("closing signal SIGTERM")
    assert [record.message for record in caplog.records] == ["asked for"]
    assert "closing signal" not in capsys.readouterr().err


def test_a_run_in_several_processes_is_hushed_before_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(session, "hush_launcher", lambda: done.append("hushed"))
    monkeypatch.setattr(session, "launch", lambda nproc, args, on_cpu: done.append(f"{nproc} started") or 0)
    assert main(["--nproc", "2", "--data", "demo"]) == 0
    assert done == ["hushed", "2 started"]
