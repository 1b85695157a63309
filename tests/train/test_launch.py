"""`--nproc` and torchrun as a user starts them: signals, a process that dies, two machines, a taken port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from fastpipe.train.cli import main
from fastpipe.train.session import without_nproc

# Each starts several interpreters: seconds alone, minutes beside other work.
pytestmark = pytest.mark.timeout(900)
STEPS = 6
LONG = 240.0  # seconds that a loaded machine may take
SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8"),
    *("--num-workers", "0", "--backend", "torchvision", "--optimizer.lr", "0.02"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 5)):
        for label, name in enumerate(("red", "green")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.jpg")
    return root


def _options(photos: Path, folder: Path, *more: str) -> list[str]:
    return [*SMALL, "--data", str(photos), "--output-dir", str(folder), "--resume", "auto", *more]


@contextmanager
def _started(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program in a process group of its own, which is gone after the block."""
    started = subprocess.Popen(
        [sys.executable, "-P", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        for child in _family(started):
            child.kill()
        started.communicate()


def _family(started: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(started.pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []


def _steps(folder: Path) -> list[dict[str, Any]]:
    """The steps that were logged; a line that is being written does not count."""
    if not (folder / "metrics.jsonl").exists():
        return []
    lines = (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    return [line for line in map(json.loads, lines) if line["kind"] == "step"]


def _wait_for(folder: Path, name: str) -> None:
    end = time.monotonic() + LONG
    while not (folder / name).exists():
        assert time.monotonic() < end, f"{name} was not written"
        time.sleep(0.1)


def test_sigterm_to_the_launcher_stops_all_ranks_at_one_step_and_resume_goes_on(
    photos: Path, tmp_path: Path
) -> None:
    """Two processes, SIGTERM, then one process: same global batches, every step once."""
    args = _options(photos, tmp_path, "--epochs", "50", "--checkpoint-interval", "0.2ep")
    with _started("-m", "fastpipe.train", "--nproc", "2", *args) as started:
        _wait_for(tmp_path, "last.ckpt")
        started.send_signal(signal.SIGTERM)
        said, _ = started.communicate(timeout=LONG)
    assert started.returncode == 143, said
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert f"stopped by SIGTERM after step {saved['step']}" in said
    assert len(saved["rng"]) == 2 and 0 < saved["step"] < 300
    assert said.count("run folder:") == 1  # rank 0 alone speaks
    assert "Warning" not in said  # a library's, of an argument that it has renamed
    assert [line["step"] for line in _steps(tmp_path)] == list(range(saved["step"]))


def test_a_rank_that_dies_ends_the_others_and_is_named(photos: Path, tmp_path: Path) -> None:
    args = _options(photos, tmp_path, "--epochs", "50", "--checkpoint-interval", "0.2ep")
    with _started("-m", "fastpipe.train", "--nproc", "2", *args) as started:
        _wait_for(tmp_path, "last.ckpt")
        ranks = {
            child.environ()["RANK"]: child for child in _family(started)[:-1] if "RANK" in child.environ()
        }
        ranks["1"].kill()
        said, _ = started.communicate(timeout=LONG)
    assert started.returncode == 137, said
    assert "rank 1 was killed by signal 9" in said
    assert not psutil.pid_exists(ranks["0"].pid)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["step"] > 0


# Python runs it at the start of every interpreter that has its folder in PYTHONPATH.
BREAKS_RANK_1 = """
import os
if os.environ.get("RANK") == "1":
    from fastpipe.train.step import Updater
    train_step = Updater.train_step
    def broken(self, images, labels):
        if self.step == 3:
            raise RuntimeError("this GPU alone is out of memory")
        return train_step(self, images, labels)
    Updater.train_step = broken
"""


def test_an_error_of_one_rank_is_shown_first_and_ends_the_others(photos: Path, tmp_path: Path) -> None:
    """Not one of ours, and no signal: whatever a rank may raise. A collective would wait for 30 minutes."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BREAKS_RANK_1)
    args = _options(photos, tmp_path / "run", "--epochs", "50")
    with _started(
        "-m", "fastpipe.train", "--nproc", "2", *args, PYTHONPATH=str(tmp_path / "site")
    ) as started:
        said, _ = started.communicate(timeout=LONG)  # until all that hold the pipe are gone, rank 0 too
    assert started.returncode == 1, said
    before, _, after = said.partition("RuntimeError: this GPU alone is out of memory")
    assert "rank 1 failed first, with status 1; see its error above" in after, said
    # Rank 0 may be ended before it has said that it only follows.
    assert "stops because another process" not in before and said.count("Traceback") == 1, said


def test_two_machines_become_one_and_the_next_batch_is_the_next(photos: Path, tmp_path: Path) -> None:
    """The agent that does not host the rendezvous is killed with its process: elastic restart."""
    args = _options(photos, tmp_path, "--epochs", "4", "--checkpoint-interval", "0.17ep")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    torchrun = (
        *("-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test"),
        *("--rdzv-conf", "last_call_timeout=3", "--local-addr", "127.0.0.1"),
        *("-m", "fastpipe.train", *args),
    )
    with _started(*torchrun) as host:
        time.sleep(2.0)  # so that the first one hosts
        with _started(*torchrun) as other:
            _wait_for(tmp_path, "previous.ckpt")
            before = torch.load(tmp_path / "previous.ckpt", weights_only=True)
            for process in _family(other):
                process.kill()
        said, _ = host.communicate(timeout=LONG)
    assert host.returncode == 0, said
    assert len(before["rng"]) == 2, "the two did not train together"
    resumed = re.findall(r"resumed from .* step (\d+)", said)
    assert resumed and int(resumed[0]) >= before["step"]
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (len(saved["rng"]), saved["step"], saved["loader"]["batch_size"]) == (1, 4 * STEPS, 8)
    assert [line["step"] for line in _steps(tmp_path)] == list(range(4 * STEPS))


def test_a_port_in_use_is_named(photos: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        with _started("-m", "fastpipe.train", *_options(photos, tmp_path / "run"), **place) as started:
            said, _ = started.communicate(timeout=LONG)
    assert started.returncode == 2, said
    assert f"127.0.0.1:{port}, but another program uses it" in said and "--master-port" in said
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_is_said_before_any_process_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--nproc", "3", "--batch-size", "64"]) == 2
    assert "--batch-size 63 or 66. Found: 64" in capsys.readouterr().err
    assert main(["--nproc", "0"]) == 2
    assert "--nproc must be at least 1. Found: 0" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert main(["--nproc", "2"]) == 2
    assert "leave out either --nproc or torchrun" in capsys.readouterr().err


def test_the_processes_get_all_options_but_nproc() -> None:
    assert without_nproc(["--epochs", "2", "--nproc", "4", "--model", "m"]) == [
        "--epochs",
        "2",
        "--model",
        "m",
    ]
    assert without_nproc(["--nproc=4"]) == []
