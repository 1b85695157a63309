"""A signal at any moment, to any of the processes: the step is finished, a checkpoint written, nothing lost.

Each run is held at a moment until the signals are sent, by a `sitecustomize` that Python runs in every
process of it: no case depends on the speed of the machine.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
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
from PIL import Image

from fastpipe.system import stop_signals
from fastpipe.system.early import command
from fastpipe.system.stop_signals import asked, listening, note_only
from fastpipe.train import runner
from fastpipe.train.checkpoint import load_checkpoint, save_checkpoint
from fastpipe.train.cli import main
from fastpipe.train.loop import Trainer
from fastpipe.train.step import Updater

pytestmark = pytest.mark.timeout(900)
LONG = 240.0  # seconds that a loaded machine may take
STEPS = 6
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 75, signal.SIGHUP: 129}
SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8"),
    *("--backend", "torchvision", "--optimizer.lr", "0.02", "--epochs", "3"),
)

# Holds rank HOLD_RANK ("" for one process) at the moment HOLD, until the file SENT is there.
HOLDS = """
import importlib.abc, importlib.util, os, sys, time

hold, rank, folder = os.environ["HOLD"], os.environ["HOLD_RANK"], os.environ["HOLD_FOLDER"]

def reached():
    if os.environ.get("RANK", "") != rank or os.path.exists(folder + "/reached"):
        return
    open(folder + "/reached", "w").close()
    while not os.path.exists(folder + "/sent"):
        time.sleep(0.02)
    time.sleep(0.3)  # who dies of the signal is dead now

def before(owner, name, when=lambda self: True):
    inner = getattr(owner, name)
    def held(*args, **kwargs):
        if when(*args[:1]):
            reached()
        return inner(*args, **kwargs)
    setattr(owner, name, held)

def third(updater):
    return updater.step == 2

def patch(module):
    {
        "imports": reached,
        "late imports": reached,
        "data": lambda: before(module, "fitted_here", lambda config: True),
        "first batch": lambda: before(module._Guarded, "__getitem__"),
        "training": lambda: before(module.Updater, "train_step", third),
        "validation": lambda: before(module.Trainer, "evaluate"),
        "checkpoint": lambda: before(module.os, "fsync"),
    }[hold]()

MODULES = {
    "imports": "torch", "late imports": "timm", "data": "fastpipe.train.prepare",
    "first batch": "fastpipe.batch.pool", "training": "fastpipe.train.step",
    "validation": "fastpipe.train.loop", "checkpoint": "fastpipe.train.checkpoint",
}

class Patching(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != MODULES.get(hold):
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            patch(module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Patching())
"""
EARLY = ("imports", "late imports", "data")
LATER = ("first batch", "training", "validation", "checkpoint")
# The last checkpoint's step: the one that was finished. A checkpoint is written after every epoch.
SAVED = {"first batch": 1, "training": 3, "validation": STEPS, "checkpoint": STEPS}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise on red or green: 24 and 9 of each for training and validation."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 9)):
        for label, name in enumerate(("red", "green")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.jpg")
    return root


def _args(photos: Path, folder: Path, workers: int) -> list[str]:
    own = ("--data", str(photos), "--output-dir", str(folder), "--num-workers", str(workers))
    return [*SMALL, *own, "--resume", "auto"]


MODES = {
    "one": ("-m", "fastpipe.train"),
    "nproc": ("-m", "fastpipe.train", "--nproc", "2"),
    "torchrun": (
        *("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "localhost:0", "-m", "fastpipe.train"),
    ),
}


class Held:
    """A run in a session of its own, held at a moment."""

    def __init__(self, mode: str, hold: str, tmp_path: Path, args: list[str]) -> None:
        self.mode, self.folder = mode, tmp_path
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(HOLDS)
        own = {
            "HOLD": hold,
            "HOLD_RANK": "" if mode == "one" else "0",
            "HOLD_FOLDER": str(tmp_path),
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        }
        self.started = subprocess.Popen(
            [sys.executable, "-P", *MODES[mode], *args],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def family(self) -> list[psutil.Process]:
        """Every process of the run, the first one first."""
        try:
            parent = psutil.Process(self.started.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def wait(self) -> None:
        """Until the moment has come."""
        end = time.monotonic() + LONG
        while not (self.folder / "reached").exists():
            assert self.started.poll() is None, self.started.communicate()[0]
            assert time.monotonic() < end, "the moment did not come"
            time.sleep(0.02)

    def send(self, number: int, target: str) -> None:
        """To the launcher (or the only process), to the main process of rank 1, to its group, or to all."""
        family = self.family()
        if target == "group":
            os.killpg(self.started.pid, number)
        elif target == "main" and self.mode != "one":
            ranks = [process for process in family[1:] if process.ppid() == self.started.pid]
            next(rank for rank in ranks if rank.environ()["RANK"] == "1").send_signal(number)
        else:
            for process in family if target == "all" else family[:1]:
                process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Let it go on: its exit status, and all that it and its children said."""
        (self.folder / "sent").touch()
        said, _ = self.started.communicate(timeout=LONG)
        return self.started.returncode, said


@contextmanager
def _held(mode: str, hold: str, tmp_path: Path, args: list[str]) -> Iterator[Held]:
    run = Held(mode, hold, tmp_path, args)
    try:
        run.wait()
        yield run
    finally:
        for process in run.family():
            process.kill()
        run.started.communicate()


def _stopped(mode: str, hold: str, number: int, target: str, workers: int, photos: Path, tmp: Path) -> None:
    """Hold the run, send the signal, and look at what is left."""
    folder = tmp / "run"
    with _held(mode, hold, tmp, _args(photos, folder, workers)) as run:
        run.send(number, target)
        status, said = run.end()
    # torchrun raises its own error for a signal as for a failed process.
    assert status == (1 if mode == "torchrun" else STATUS[signal.Signals(number)]), said
    if mode != "torchrun":
        assert "Traceback" not in said and "Error" not in said, said
    if hold in EARLY:
        assert not (folder / "last.ckpt").exists(), said
        return
    step = load_checkpoint(folder / "last.ckpt")["step"]
    assert f"stopped by {signal.Signals(number).name} after step {step}: saved" in said, said
    # While rank 0 writes, rank 1 has told already that it heard nothing, and waits: a step more is done.
    later = hold == "checkpoint" and target == "main" and mode != "one"
    assert step in ((STEPS, STEPS + 1) if later else (SAVED[hold],))
    assert not list(folder.glob(".*.tmp"))


def _kill_all_here(number: int) -> None:
    """The signal to this process and to its workers, from outside as a scheduler sends it."""
    children = [str(child.pid) for child in multiprocessing.active_children()]
    assert children
    subprocess.run(["kill", f"-{number}", str(os.getpid()), *children], check=True)
    time.sleep(0.2)  # who dies of it is dead now


@pytest.fixture
def hangup_counts() -> Iterator[None]:
    """SIGHUP with its usual meaning, also where these tests run under nohup, which ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("hold", "number"),
    [
        *(("training", number) for number in STATUS),
        ("validation", signal.SIGTERM),
        ("checkpoint", signal.SIGTERM),
    ],
)
def test_workers_outlive_a_signal_to_all(
    hold: str,
    number: int,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hangup_counts: None,
) -> None:
    owner: Any
    owner, name = {
        "training": (Updater, "train_step"),
        "validation": (Trainer, "evaluate"),
        "checkpoint": (runner, "save_checkpoint"),
    }[hold]
    inner, sent = getattr(owner, name), []

    def held(*args: Any, **kwargs: Any) -> Any:
        if not sent and (hold != "training" or args[0].step == 2):
            sent.append(number)
            _kill_all_here(number)
        return inner(*args, **kwargs)

    monkeypatch.setattr(owner, name, held)
    assert main(_args(photos, tmp_path, 2)) == STATUS[signal.Signals(number)]
    assert load_checkpoint(tmp_path / "last.ckpt")["step"] == SAVED[hold]


def test_before_torch_is_imported_the_status_is_the_same(photos: Path, tmp_path: Path) -> None:
    _stopped("one", "imports", signal.SIGUSR1, "main", 0, photos, tmp_path)


def test_a_signal_to_all_processes_of_a_launcher(photos: Path, tmp_path: Path) -> None:
    """As a scheduler sends it; then the run goes on, and ends where it would have ended."""
    _stopped("nproc", "training", signal.SIGTERM, "all", 1, photos, tmp_path)
    assert main(_args(photos, tmp_path / "run", 0)) == 0
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 3 * STEPS


@pytest.mark.parametrize("mode", ["one", pytest.param("nproc", marks=pytest.mark.slow)])
def test_a_second_signal_ends_at_once_and_leaves_the_last_checkpoint(
    mode: str, photos: Path, tmp_path: Path
) -> None:
    """In the middle of writing one, which neither of the two lets end."""
    folder, same_size = tmp_path / "run", ("--progressive-resizing", "null")
    assert main([*_args(photos, folder, 0), *same_size, "--extrapolate-from", "2"]) == 0
    whole = (folder / "last.ckpt").read_bytes()
    with _held(mode, "checkpoint", tmp_path, [*_args(photos, folder, 1), *same_size]) as run:
        children = run.family()[1:]
        run.send(signal.SIGTERM, "group")
        time.sleep(1.5)  # the two are not the one that `timeout` sends twice
        run.send(signal.SIGTERM, "group")
        said, _ = run.started.communicate(timeout=LONG)  # it is held still
    assert run.started.returncode == 143 and "ended at once by a second SIGTERM" in said
    assert (folder / "last.ckpt").read_bytes() == whole
    assert children
    for child in children:
        _wait_until_gone(child)
    save_checkpoint({"step": 1}, folder / "last.ckpt")
    assert not list(folder.glob(".*.tmp"))  # what the killed one left


def _wait_until_gone(process: psutil.Process) -> None:
    """Killed it is, but the kernel takes a moment, and nobody may wait for it."""
    end = time.monotonic() + LONG
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            time.sleep(0.01)


def _sleep(started: Any) -> None:
    started.set()
    time.sleep(LONG)


def test_a_child_obeys_its_parent_alone() -> None:
    """`terminate` ends it, which multiprocessing does when a program ends; no signal from elsewhere does."""
    context = multiprocessing.get_context("fork")
    with listening(note_only):
        started = context.Event()
        child = context.Process(target=_sleep, args=(started,), daemon=True)
        child.start()
        assert started.wait(LONG)
        for number in STATUS:
            subprocess.run(["kill", f"-{number}", str(child.pid)], check=True)
        child.join(0.5)
        assert child.is_alive()
        child.terminate()
        child.join(LONG)
        assert child.exitcode == 0


DEAF_CHILD = """
import multiprocessing, time
from fastpipe.system import stop_signals
from fastpipe.system.stop_signals import listening, note_only

def hang(started):
    started.set()
    while True:
        time.sleep(60)

with listening(note_only):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    stop_signals._obey = lambda signals: time.sleep(1000)
    child = context.Process(target=hang, args=(started,), daemon=True)
    child.start()
    started.wait()
    print(child.pid)
"""


def test_a_child_that_obeys_nobody_does_not_hold_up_the_end() -> None:
    """multiprocessing ends it by SIGTERM, and waits for ever; here it is killed after five seconds."""
    ended = subprocess.run(
        [sys.executable, "-P", "-c", DEAF_CHILD], capture_output=True, text=True, timeout=LONG
    )
    assert ended.returncode == 0 and ended.stderr == ""
    with contextlib.suppress(psutil.NoSuchProcess):
        _wait_until_gone(psutil.Process(int(ended.stdout)))


def test_signals_keep_their_meaning_behind_the_block_and_reach_the_inner_one() -> None:
    before = [signal.getsignal(number) for number in STATUS]
    heard: list[int] = []
    with listening(heard.append):
        with listening(note_only):
            signal.raise_signal(signal.SIGINT)  # to this thread alone
            assert asked() == signal.SIGINT and heard == []
            subprocess.run(["kill", "-TERM", str(os.getpid())], check=True)
            end = time.monotonic() + LONG
            while asked() != signal.SIGTERM:
                assert time.monotonic() < end
        signal.raise_signal(signal.SIGINT)  # dropped with the block
    assert asked() == 0
    assert [signal.getsignal(number) for number in STATUS] == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(STATUS)


def test_a_second_ctrl_c_interrupts_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_signals, "_SAME_S", 0.0)
    with pytest.raises(KeyboardInterrupt), listening(note_only):
        for _ in range(2):
            subprocess.run(["kill", "-INT", str(os.getpid())], check=True)
            time.sleep(0.2)
        time.sleep(LONG)


def test_the_trainer_is_known_by_its_name_alone() -> None:
    for its in (
        ["python", "/bin/fastpipe-train", "--epochs"],
        ["python", "-X", "dev", "-P", "-m", "fastpipe.train", "--epochs"],
    ):
        assert command(its) == "fastpipe-train"
    spawned = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)"
    for other in (
        ["python", "train.py", "fastpipe-train"],
        ["python", "-m", "torch.distributed.run", "-m", "fastpipe.train"],
        ["python", "-c", spawned, "--multiprocessing-fork", "fastpipe-train"],
        ["python"],
    ):
        assert command(other) == ""


HOLDS_ALL = [*EARLY, *LATER]
LAUNCHED_TO = ["all", "launcher", "main"]
CASES = [
    *itertools.product(["one"], HOLDS_ALL, [signal.SIGTERM], ["group", "main"], [0, 1, 2]),
    *itertools.product(
        ["one"], ["imports", "training"], [signal.SIGINT, signal.SIGUSR1], ["group", "main"], [1]
    ),
    *itertools.product(["nproc", "torchrun"], HOLDS_ALL, [signal.SIGTERM], LAUNCHED_TO, [1]),
    *itertools.product(["nproc", "torchrun"], ["training"], [signal.SIGTERM], LAUNCHED_TO, [0, 2]),
    *itertools.product(["nproc", "torchrun"], ["training"], [signal.SIGINT], LAUNCHED_TO, [1]),
    *itertools.product(["nproc"], ["imports", "training"], [signal.SIGUSR1], LAUNCHED_TO, [1]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "hold", "number", "target", "workers"), CASES)
def test_every_moment_signal_and_process(
    mode: str, hold: str, number: int, target: str, workers: int, photos: Path, tmp_path: Path
) -> None:
    _stopped(mode, hold, number, target, workers, photos, tmp_path)
