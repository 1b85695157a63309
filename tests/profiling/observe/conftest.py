"""Scripts to observe, run in a fork of this process: torch is imported already, so a run takes a second."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.process
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fastpipe.profiling.cli import main

HEAD = """
import os, sys, time
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

class Numbers(Dataset):
    def __init__(self, length=64, seconds=0.0):
        self.length, self.seconds = length, seconds
    def __len__(self):
        return self.length
    def __getitem__(self, index):
        burn(self.seconds)
        return torch.full((4,), float(index)), index
"""


_WHOLE = """
import sys
from fastpipe.profiling.observe import ending
ending.GRACE = {grace}
from fastpipe.profiling.cli import main
sys.exit(main(["run", *sys.argv[1:]]))
"""


class Ran(NamedTuple):
    """How the command ended; report is the JSON, {} where there is none."""

    status: int
    out: str
    err: str
    report: dict[str, Any]


Observe = Callable[..., Ran]


def _child(folder: Path, argv: list[str]) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    os.chdir(folder)
    vars(multiprocessing.process)["ORIGINAL_DIR"] = str(folder)  # as if it had been started there
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    status = main(["run", *argv])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_script(folder: Path, source: str, *options: str, interrupt: str = "", arguments: Any = ()) -> Ran:
    """Run `source` with the options; with `interrupt`, Ctrl-C once it has made a file of that name."""
    (folder / "train.py").write_text(HEAD + source, encoding="utf-8")
    wanted = [] if "--json" in options else ["--json", str(folder / "run.json")]
    program = ["train.py", *arguments] if "-m" not in options else [*arguments]
    argv = ["--warmup", "1", "--steps", "6", *wanted, *options, *program]
    # Not daemonic: the script has worker processes of its own.
    process = multiprocessing.get_context("fork").Process(target=_child, args=(folder, argv), daemon=False)
    process.start()
    while interrupt and process.is_alive() and not (folder / interrupt).exists():
        time.sleep(0.02)
    if interrupt and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
    process.join(240)
    assert process.exitcode is not None, "it hangs"
    found = folder / "run.json"
    report = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
    out, err = ((folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
    return Ran(process.exitcode, out, err, report)


@pytest.fixture
def observe(tmp_path: Path) -> Observe:
    """`observe(source, *options)` runs a script under `fastpipe-profile run` in a folder of its own."""

    def call(source: str, *options: str, **more: Any) -> Ran:
        return run_script(tmp_path, source, *options, **more)

    return call


@pytest.fixture
def run_whole(tmp_path: Path) -> Callable[..., Any]:
    """`run_whole(source, *options, grace=30.0)` runs it in an interpreter of its own, to that one's exit.

    grace: seconds for what a stopped script left. A command that hangs fails by its time.
    """

    def call(
        source: str, *options: str, grace: float = 30.0, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "train.py").write_text(HEAD + source, encoding="utf-8")
        argv = [sys.executable, "-c", _WHOLE.format(grace=grace), "--warmup", "1", *options, "train.py"]
        given: dict[str, Any] = {"capture_output": True, "timeout": 400, **more}
        return subprocess.run(argv, cwd=tmp_path, text=True, **given)

    return call
