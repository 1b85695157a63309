"""Ctrl-C from the first import on ends each command in one line, with the status that it has later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastpipe.system.early import command

BIN = Path(sys.executable).parent
# Sends this process Ctrl-C when it begins to import AT, and ends it there if THEN is "end".
SITE = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
            if os.environ["THEN"] == "end":
                os._exit(7)

sys.meta_path.insert(0, Interrupting())
"""
STARTS = {
    "fastpipe-train": [str(BIN / "fastpipe-train"), "--list-recipes"],
    "fastpipe-profile": [str(BIN / "fastpipe-profile"), "--version"],
    "fastpipe-write": [str(BIN / "fastpipe-write"), "--version"],
    "profile -m": [sys.executable, "-P", "-m", "fastpipe.profiling", "--version"],
    "write -m": [sys.executable, "-P", "-m", "fastpipe.storage.beton.cli", "--version"],
}
SAID = {
    "fastpipe-train": "fastpipe-train: stopped by SIGINT\n",
    "fastpipe-profile": "fastpipe-profile: interrupted\n",
    "profile -m": "fastpipe-profile: interrupted\n",
    "fastpipe-write": "fastpipe-write: interrupted\n",
    "write -m": "fastpipe-write: interrupted\n",
}


def _start(
    argv: list[str], folder: Path, *, at: str = "", then: str = ""
) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    env = {**os.environ, "AT": at, "THEN": then, "PYTHONPATH": str(folder)}
    return subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("start", STARTS)
def test_ctrl_c_while_torch_is_imported(start: str, tmp_path: Path) -> None:
    done = _start(STARTS[start], tmp_path, at="torch")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", SAID[start])


@pytest.mark.parametrize(
    ("start", "at"),
    [
        ("profile -m", "fastpipe.profiling.measure.workload"),
        pytest.param("write -m", "fastpipe.storage.beton.verify", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_behind_torch_before_the_command_begins(start: str, at: str, tmp_path: Path) -> None:
    done = _start(STARTS[start], tmp_path, at=at)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", SAID[start])


@pytest.mark.slow
def test_a_script_under_run_has_pythons_own_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import signal\nprint(signal.getsignal(signal.SIGINT).__name__)\n")
    done = _start([*STARTS["profile -m"][:-1], "run", "x.py"], tmp_path)
    assert done.stdout == "default_int_handler\n", done.stderr


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As behind a shell's `&`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = _start(STARTS["profile -m"], tmp_path, at="torch", then="end")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["python", "/bin/fastpipe-write", "x"], "fastpipe-write"),
        (["python", "-m", "fastpipe.profiling", "run"], "fastpipe-profile"),
        (["python", "train.py", "fastpipe-profile"], ""),
        (["python", "-m", "fastpipe-write"], ""),
        (["python", "-c", "fastpipe-write"], ""),
    ],
)
def test_commands_are_known_by_their_names(argv: list[str], expected: str) -> None:
    assert command(argv) == expected
