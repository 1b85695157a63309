"""--help describes every option, of the commands on a checkpoint too; --version; switches without a value."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fastpipe import __version__
from fastpipe.profiling.commands.parser import COMMANDS
from fastpipe.profiling.commands.parser import make_parser as profile_parser
from fastpipe.train.cli import main, parse
from fastpipe.train.config.keys import group_classes, switches
from fastpipe.train.config.options import Options
from fastpipe.train.config.parser import make_parser
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.describe import descriptions

MAINS = {
    "fastpipe-train": "fastpipe.train.cli",
    "fastpipe-profile": "fastpipe.profiling.cli",
    "fastpipe-write": "fastpipe.storage.beton.cli",
}


def _helped(command: Callable[[list[str]], int], args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        command(args)
    assert left.value.code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def _undescribed(parser: Any) -> list[str]:
    texts = {action.dest: action.help for action in parser._actions if action.help != argparse.SUPPRESS}
    return [name for name, text in texts.items() if not (text or "").strip()]


def test_every_option_of_training_has_a_description() -> None:
    assert _undescribed(make_parser()) == []
    for cls in (Options, TrainConfig, *(group.cls for group in group_classes().values())):
        wanted = {name for name in cls.__dataclass_fields__ if name not in group_classes()}
        assert wanted == set(descriptions(cls)), cls.__name__


def test_without_its_source_the_command_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(cls: type[Any]) -> str:
        raise OSError("source code not available")

    monkeypatch.setattr(inspect, "getsource", no_source)
    assert parse(["--epochs", "3"]).config.epochs == 3


def test_every_option_of_writing_has_one() -> None:
    assert _undescribed(importlib.import_module(MAINS["fastpipe-write"]).make_parser()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_profiling_has_one(command: str) -> None:
    assert _undescribed(profile_parser(command)) == []


def test_help_shows_the_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    shown = " ".join(_helped(main, ["--help"], capsys).split())
    for text in (
        "Continue from a checkpoint",
        "--optimizer.lr LR The peak of the schedule",
        "--ema.help",
        "--version",
    ):
        assert text in shown


@pytest.mark.parametrize("name", sorted(group_classes()))
def test_every_group_has_a_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = " ".join(_helped(main, [f"--{name}.help"], capsys).split())
    for key, text in descriptions(group_classes()[name].cls).items():
        assert f"--{name}.{key}" in shown and " ".join(text.split()[:3]) in shown


@pytest.mark.parametrize("name", MAINS)
def test_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = importlib.import_module(MAINS[name]).main(["--version"])
    except SystemExit as left:  # argparse's way
        status = left.code
    assert (status, capsys.readouterr().out) == (0, f"{name} {__version__}\n")


def test_version_needs_no_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastpipe-train {__version__}\n"


@pytest.mark.parametrize("name", [*switches(Options), *switches(TrainConfig)])
def test_a_switch_needs_no_value(name: str) -> None:
    """`--compile` alone is true, at the end and before another option; a value is taken as one."""
    dashed = f"--{name.replace('_', '-')}"
    fitting = ("--randaugment.space", "timm") if name.startswith("randaugment") else ()
    alone, before, false = (parse([*fitting, dashed, *more]) for more in ((), ("--epochs", "40"), ("false",)))
    assert name in alone.explicit
    for told, expected in ((alone, True), (before, True), (false, False)):
        value: Any = told.options if hasattr(told.options, name) else told.config
        for part in name.split("."):
            value = getattr(value, part)
        assert value is expected
