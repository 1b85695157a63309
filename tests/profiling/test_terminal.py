"""What every command does alike: width, readers that go, Ctrl-C, and the list of commands."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastpipe.profiling import cli
from fastpipe.profiling.commands.terminal import report_console

STAGES = [
    {"name": name, "images_per_s": {"median": 1e5, "low": 9e4, "high": 1.1e5}} for name in ("read", "decode")
]


@pytest.fixture
def report(tmp_path: Path) -> str:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"schema_version": 2, "stages": STAGES}), encoding="utf-8")
    return str(path)


def run(*argv: str, code: str = "", **given: Any) -> subprocess.CompletedProcess[str]:
    program = f"import sys\n{code}\nfrom fastpipe.profiling.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, *argv], text=True, timeout=120, **{"capture_output": True, **given}
    )


@pytest.mark.parametrize(
    ("columns", "expected"), [("60", 60), ("200", 200), ("", 104), ("0", 104), ("x", 104)]
)
def test_columns_counts_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str, expected: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for stderr in (False, True):
        console = report_console(104, stderr=stderr)
        assert not console.is_terminal and console.width == expected


def test_a_report_keeps_to_columns(report: str, tmp_path: Path) -> None:
    done = run("diff", report, report, env={**os.environ, "COLUMNS": "70"})
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 70
    said = " ".join(done.stdout.split())
    assert said.count("100.0k (90.0k-110.0k)") == 4 and "…" not in said


def helped(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        cli.main([*argv, "--help"])
    return capsys.readouterr().out


def test_help_lists_all_five_commands(capsys: pytest.CaptureFixture[str]) -> None:
    listed = helped(capsys).partition("commands, each with its own --help:")[2].splitlines()[1:6]
    assert [line.split()[:2] for line in listed] == [
        ["fastpipe-profile", word] for word in ("DATA", "run", "diff", "compare", "host")
    ]


@pytest.mark.parametrize("command", ["run", "diff", "compare", "host"])
def test_each_command_has_a_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = helped(capsys, command)
    assert f"usage: fastpipe-profile {command} " in said and "--what-if" not in said


def test_a_reader_that_has_gone_loses_no_file_and_no_status(report: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(
        "diff", report, report, "--json", str(tmp_path / "diff.json"),
        capture_output=False, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "diff.json").read_text(encoding="utf-8"))["stages"]


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("command", "within"),
    [
        ([], "fastpipe.profiling.commands.profile:make_workload"),
        (["compare"], "fastpipe.profiling.commands.compare:fetch"),
        (["host"], "fastpipe.profiling.commands.host:make_card"),
        (["diff", "a.json", "b.json"], "fastpipe.profiling.commands.diff:load_report"),
        (["run", "x.py"], "fastpipe.profiling.observe.cli:find_script"),
    ],
    ids=["profile", "compare", "host", "diff", "run"],
)
def test_ctrl_c_is_one_line_and_130(
    command: list[str], within: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, name = within.split(":")
    monkeypatch.setattr(importlib.import_module(module), name, interrupted)
    assert cli.main(command or ["demo"]) == 130
    assert capsys.readouterr().err == "fastpipe-profile: interrupted\n"


def test_ctrl_c_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["diff", "a.json", "b.json"]) == 130
    assert capsys.readouterr().err == "fastpipe-profile: interrupted\n"
