"""The command is gone when it is over: real interpreters, since Python's own exit is what could hang."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# Batches of 2.4 MB: four a worker fill what lies between it and a script that has stopped reading.
LOADERS = """
class Large(Dataset):
    def __len__(self):
        return 400
    def __getitem__(self, index):
        return torch.full((150_000,), float(index)), index

train = DataLoader(Large(), 4, num_workers=2, persistent_workers=True, pin_memory=False, prefetch_factor=4)
val = DataLoader(Large(), 4, num_workers=1)
kept = []

def epoch():
    batches = iter(train)
    kept.extend(worker.pid for worker in batches._workers)
    print(*kept, flush=True)
    for number, batch in enumerate(batches):
        for count, other in enumerate(val):
            if count == 1:
                break
        if number == 4:
            time.sleep(0.5)  # the workers go on until their queues are full
            return
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_stop_with_nested_loaders_and_full_queues(run_whole: Any) -> None:
    ran = run_whole(LOADERS + "while True: epoch()\n", "--stop", "--steps", "14")
    assert ran.returncode == 0, ran.stderr
    pids = [int(word) for word in ran.stdout.split()]
    assert len(pids) >= 2
    assert not [pid for pid in pids if alive(pid)]
    assert "they are ended" not in ran.stderr, "nothing of the script's was left"


def test_end_with_workers_that_nobody_shut_down(run_whole: Any) -> None:
    ran = run_whole(LOADERS + "epoch()\nsys.exit(3)\n", "--steps", "4")
    assert ran.returncode == 3, ran.stderr
    assert not [pid for pid in map(int, ran.stdout.split()) if alive(pid)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_stop_ends_what_the_script_left_running(run_whole: Any) -> None:
    source = """
import multiprocessing, signal, threading
context = multiprocessing.get_context("fork")
full = context.Queue()

def wait_for_ever(pipe):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.recv()

near, far = context.Pipe()
child = context.Process(target=wait_for_ever, args=(far,), name="own-process")
child.start()
threading.Thread(target=threading.Event().wait, name="own-thread").start()
full.put(b"x" * 1_000_000)  # more than a pipe holds: its feeder is joined at exit
print(child.pid, flush=True)
while True:
    for batch in DataLoader(Numbers(), 4, num_workers=1): pass
"""
    ran = run_whole(source, "--stop", "--steps", "4", grace=1.0)
    assert ran.returncode == 0, ran.stderr
    assert "own-thread, own-process still run; they are ended" in ran.stderr
    assert not alive(int(ran.stdout))


def test_a_clean_up_that_takes_long_is_named_and_not_cut_off(run_whole: Any) -> None:
    source = """
try:
    while True:
        for batch in DataLoader(Numbers(), 4): pass
finally:
    time.sleep(2.5)
    print("saved")
"""
    ran = run_whole(source, "--stop", "--steps", "4", grace=1.0)
    assert (ran.returncode, ran.stdout) == (0, "saved\n"), ran.stderr
    assert "still runs, here:" in ran.stderr
    assert "time.sleep(2.5)" in ran.stderr
