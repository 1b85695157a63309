"""The runner with runs that only pretend: what is repeated, what is shared, and what a kill leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.studies import lock
from fastpipe.train.studies.catalogue import EXPERIMENTS
from fastpipe.train.studies.folder import SUMMARY, claim, finished, open_study
from fastpipe.train.studies.scale import PlannedRun, planned
from fastpipe.train.studies.schedule import Progress, work

FACTS = {"train": 10, "validation": 2, "test": None, "classes": ["a", "b"]}


class Pretend:
    """Writes the summary of a run, or fails, and remembers what it was asked for."""

    def __init__(self, failing: str = "") -> None:
        self.asked: list[str] = []
        self.failing = failing

    def __call__(self, run: PlannedRun, folder: Path) -> int:
        self.asked.append(run.name)
        if run.arm.name == self.failing:
            raise DataError("the loss is not finite")
        (folder / SUMMARY).write_text('{"top1": 0.5}')
        return 0


def runs(seeds: int = 1) -> list[PlannedRun]:
    return planned(EXPERIMENTS["table5"], "small", seeds=seeds)


def do(folder: Path, execute: Pretend, seeds: int = 1) -> Progress:
    return work(folder, runs(seeds), execute, machine={"cpus": 2.0}, say=lambda text: None)


def test_a_finished_run_is_never_repeated(tmp_path: Path) -> None:
    first, second = Pretend(), Pretend()
    assert do(tmp_path, first).done == ["both/seed-1", "mixup/seed-1", "smoothing/seed-1"]
    assert do(tmp_path, second, seeds=2).done == ["both/seed-2", "mixup/seed-2", "smoothing/seed-2"]
    assert not list(tmp_path.rglob("*.lock-*"))


def test_torn_json_is_an_unfinished_run(tmp_path: Path) -> None:
    do(tmp_path, Pretend())
    (tmp_path / "mixup/seed-1" / SUMMARY).write_text('{"top1": 0.')
    again = Pretend()
    do(tmp_path, again)
    assert again.asked == ["mixup/seed-1"]


def test_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    progress = do(tmp_path, Pretend(failing="mixup"))
    assert progress.failed == ["mixup/seed-1"] and len(progress.done) == 2
    again = Pretend()
    do(tmp_path, again)
    assert again.asked == ["mixup/seed-1"]


def test_a_run_in_other_hands_is_left_to_them(tmp_path: Path) -> None:
    execute = Pretend()
    with lock.held(tmp_path / "mixup/seed-1") as mine:
        assert mine
        progress = do(tmp_path, execute)
    assert progress.busy == ["mixup/seed-1"] and "mixup/seed-1" not in execute.asked
    assert do(tmp_path, execute).done == ["mixup/seed-1"]


def test_a_stop_ends_the_study_between_runs(tmp_path: Path) -> None:
    def stopped(run: PlannedRun, folder: Path) -> int:
        return 143

    progress = work(tmp_path, runs(), stopped, machine={}, say=lambda text: None)
    assert progress.stopped == 143 and not progress.failed
    assert not finished(tmp_path, runs()[0])


def _hold(run: str, ready: str) -> None:
    with lock.held(Path(run)) as mine:
        Path(ready).write_text(str(mine))
        time.sleep(60)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    run, ready = tmp_path / "arm" / "seed-1", tmp_path / "ready"
    other = multiprocessing.get_context("fork").Process(target=_hold, args=(str(run), str(ready)))
    other.start()
    try:
        while not ready.exists():
            time.sleep(0.01)
        with lock.held(run) as mine:
            assert not mine
        assert lock.holder(run) == f"{os.uname().nodename}, process {other.pid}"
    finally:
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)
        other.join()
    with lock.held(run) as mine:
        assert mine
        with lock.held(run) as again:
            assert not again
    assert lock.holder(run) is None


def _foreign(path: Path, age_s: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": "elsewhere", "space": "", "pid": 1, "started": 1.0}))
    then = time.time() - age_s
    os.utime(path, (then, then))


@pytest.mark.parametrize(("age_s", "free"), [(5.0, False), (lock.STALE_S + 60.0, True)])
def test_another_machines_lock_is_judged_by_its_heartbeat(tmp_path: Path, age_s: float, free: bool) -> None:
    run = tmp_path / "arm" / "seed-1"
    _foreign(run.with_name("seed-1.lock-1"), age_s)
    with lock.held(run) as mine:
        assert mine is free


def test_a_torn_lock_is_judged_by_its_age(tmp_path: Path) -> None:
    torn = tmp_path / "seed-1.lock-3"
    torn.write_text('{"host": ')
    with lock.held(tmp_path / "seed-1") as mine:
        assert not mine
    os.utime(torn, (1.0, 1.0))
    with lock.held(tmp_path / "seed-1") as mine:
        assert mine and (tmp_path / "seed-1.lock-4").exists()


def test_of_many_that_find_a_dead_holder_one_gets_the_lock(tmp_path: Path) -> None:
    run = tmp_path / "arm" / "seed-1"
    _foreign(run.with_name("seed-1.lock-1"), 1e6)
    start, end, got = threading.Barrier(8), threading.Barrier(8), []

    def compete() -> None:
        start.wait()
        with lock.held(run) as mine:
            got.append(mine)
            end.wait()

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_whoever_lost_its_lock_ends_before_it_writes(tmp_path: Path) -> None:
    """A laptop that slept: another machine has followed in the meantime."""
    program = (
        "import sys, time; from pathlib import Path; from fastpipe.train.studies import lock\n"
        "lock.BEAT_S = 0.05\n"
        "with lock.held(Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(60)"
    )
    run = tmp_path / "seed-1"
    other = subprocess.Popen([sys.executable, "-c", program, str(run)], stdout=-1, stderr=-1, text=True)
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    (tmp_path / "seed-1.lock-2").write_text("{}")
    _, said = other.communicate(timeout=30)
    assert other.returncode == 75 and "another process took over" in said


def test_other_data_or_another_study_in_the_folder_is_refused(tmp_path: Path) -> None:
    open_study(tmp_path, "table5", "small", "photos", FACTS)
    open_study(tmp_path, "table5", "small", "/mnt/photos", FACTS)  # the same, mounted elsewhere
    with pytest.raises(ArgumentError, match="other data \\('photos'\\)"):
        open_study(tmp_path, "table5", "small", "dogs", {**FACTS, "train": 11})
    with pytest.raises(ArgumentError, match="holds the experiment 'table5'"):
        open_study(tmp_path, "table8", "small", "photos", FACTS)
    (tmp_path / "study.json").write_text('{"exp')
    with pytest.raises(DataError, match="is damaged"):
        open_study(tmp_path, "table5", "small", "photos", FACTS)


def test_a_run_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    run = runs()[0]
    claim(tmp_path, run, {})
    claim(tmp_path, run, {})
    changed = PlannedRun(arm=run.arm, seed=1, epochs=99, options={**run.options, "epochs": "99"})
    with pytest.raises(ArgumentError, match="Name another --output"):
        claim(tmp_path, changed, {})
