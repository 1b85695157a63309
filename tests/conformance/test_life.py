"""Iterators that are abandoned, run side by side, forked, interrupted or killed; threads and memory."""

import gc
import json
import os
import signal
import subprocess
import threading
import time
import warnings

import psutil
import pytest
import torch

from fastpipe.errors import NoEffectWarning

ONE = pytest.mark.parametrize("workers", [1])
NONE_AND_ONE = pytest.mark.parametrize("workers", [0, 1])
# Each of these starts an interpreter, 5 s: one of the two runs every time.
NONE_AND_SLOWLY_ONE = pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
ONE_AND_SLOWLY_NONE = pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])


def _ids(batches):
    return [labels.tolist() for _, labels in batches]


def test_early_break(lab):
    """early break, then the next epoch is complete"""
    loader = lab.loader(shuffle=True, batch_size=2)
    iterator = iter(loader)
    begun = [next(iterator) for _ in range(4)]
    assert [i for batch in _ids(begun) for i in batch] == lab.order(0)[:8]
    del iterator
    assert [i for batch in _ids(loader) for i in batch] == lab.order(1)


def test_concurrent_iterators(lab):
    """two iterators of one loader and one of another, alternating"""
    loader, second = lab.loader(batch_size=4), lab.loader(batch_size=4, shuffle=True)
    epochs = [list(lab.loader(batch_size=4, num_workers=0))]
    iterators = [iter(loader), iter(second), iter(loader)]
    seen = [[], [], []]
    for _ in range(5):
        for place, iterator in enumerate(iterators):
            seen[place].append(next(iterator))
    assert _ids(seen[0]) == _ids(seen[2]) == _ids(epochs[0])
    assert all(torch.equal(a[0], b[0]) for a, b in zip(seen[0], epochs[0], strict=True))
    assert [i for batch in _ids(seen[1]) for i in batch] == lab.order(0)
    for iterator in iterators:
        assert next(iterator, None) is None


@NONE_AND_ONE
def test_broken_off_epochs_leave_nothing_behind(lab, children):
    """the numbers of threads and processes stay constant over abandoned epochs"""
    loader = lab.loader(batch_size=2)
    for _ in range(2):
        next(iter(loader))
    gc.collect()
    threads, processes = threading.active_count(), len(children())
    for _ in range(5):
        for _ in loader:
            break
    gc.collect()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (threading.active_count() > threads or len(children()) > processes):
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert len(children()) <= processes


@ONE
def test_an_error_of_the_users_code_reaches_the_consumer(lab):
    """an exception in a worker is raised in the loop within 10 s"""
    dataset = lab.dataset()
    dataset.target_transform = _fails_at_nine
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="label nine"):
        list(lab.loader(dataset=dataset))
    assert time.monotonic() - started < 10


def _fails_at_nine(label):
    if label == 9:
        raise ZeroDivisionError("label nine")
    return label


KILL = """
    import os, psutil, signal, time
    iterator = iter(loader(1, shuffle=True))
    next(iterator)
    workers = psutil.Process().children()
    workers = [worker for worker in workers if "resource_tracker" not in " ".join(worker.cmdline())]
    print(len(workers), flush=True)
    started = time.monotonic()
    count = 1
    try:
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        for batch in iterator:
            time.sleep(0.01)
            count += 1
        print("ended after", count)
    except RuntimeError as error:
        print(f"error {time.monotonic() - started:.1f} {error}")
"""


@ONE
def test_a_killed_worker(lab):
    """a worker process killed: an error within 10 s (backends with threads only: every batch arrives)"""
    done = lab.run(KILL)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    if lines[0] == "0":
        assert lines[1] == "ended after 20"
    else:
        assert lines[1].startswith("error ") and float(lines[1].split()[1]) < 10, lines[1]


THREAD = """
    import ctypes, threading, time
    iterator = iter(loader(1, shuffle=True))
    seen = next(iterator)[1].tolist()
    for thread in threading.enumerate():
        if "fastpipe" in thread.name and thread is not threading.current_thread():
            number, error = ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, error)
    try:
        for _, labels in iterator:
            seen += labels.tolist()
            time.sleep(0.01)
        print(seen)
    except (RuntimeError, SystemExit) as error:
        print("error", error)
"""


@ONE_AND_SLOWLY_NONE
def test_a_killed_thread(lab):
    """a thread of the loader killed: an error or every batch, never a hang or a short epoch"""
    done = lab.run(THREAD, timeout=150)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("error") or last == str(lab.order()), done.stdout + done.stderr


# One epoch without an end: Python itself drops a KeyboardInterrupt that comes within os.fork (its hooks'
# errors are only printed), and short epochs fork all the time.
LOOP = """
    order = torch.utils.data.RandomSampler(range(20), replacement=True, num_samples=10**8)
    ours = iter(loader(2, sampler=order))
    next(ours)
    print("ready", flush=True)
    for batch in ours:
        pass
"""


@ONE
def test_ctrl_c(lab):
    """Ctrl-C ends the script and its workers"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(lab.command(LOOP), text=True, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            workers = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in stderr
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


FORK = """
    import multiprocessing
    def digest():
        return [(labels.tolist(), images.double().sum().item()) for images, labels in loader(shuffle=True)]
    def child(connection):
        connection.send(digest())
    if __name__ == "__main__":
        here = digest()
        ours, theirs = multiprocessing.get_context("fork").Pipe()
        process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
        process.start()
        assert ours.poll(90), "the forked process hangs"
        assert ours.recv() == here
        process.join(20)
        assert process.exitcode == 0, process.exitcode
        assert digest() == here
        print("same")
"""


@NONE_AND_SLOWLY_ONE
def test_a_fork_after_use(lab):
    """a process forked after the loader ran loads the same batches"""
    done = lab.run(FORK)
    assert done.stdout.strip() == "same", done.stdout + done.stderr


@ONE
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_start_methods(lab, method):
    """workers started by fork and by spawn deliver the same bytes"""
    with warnings.catch_warnings():
        # A backend with threads says that the argument has no effect.
        warnings.filterwarnings("ignore", "multiprocessing_context has no effect", NoEffectWarning)
        here = list(lab.loader(batch_size=10, multiprocessing_context=method))
    alone = lab.loader(batch_size=10, num_workers=0)
    for (images, labels), (pixels, numbers) in zip(here, alone, strict=True):
        assert labels.tolist() == numbers.tolist()
        assert torch.equal(images, pixels)


MEMORY = """
    import gc, psutil, threading, time
    me = psutil.Process()
    def threads():  # one that has done its work may still be about to end
        least, deadline = points[0][1] if points else 1, time.monotonic() + 5
        while threading.active_count() > least and time.monotonic() < deadline:
            time.sleep(0.05)
        return threading.active_count()
    def used():
        gc.collect()
        return sum(p.memory_info().rss - p.memory_info().shared for p in [me, *me.children(recursive=True)])
    ours = loader(4, shuffle=True)
    points = []
    for epoch in range(30 if sys.argv[2] == "complete" else 60):
        for batch in ours:
            if sys.argv[2] != "complete":
                break
        if epoch % 10 == 9:
            del batch
            points.append((used() / 2**20, threads()))
    print(json.dumps(points))
"""


@pytest.mark.slow
@NONE_AND_ONE
@pytest.mark.parametrize("kind", ["complete", "abandoned"])
def test_memory_is_flat(lab, kind, record_property):
    """memory and threads stay constant over 30 complete and 60 abandoned epochs"""
    done = lab.run(MEMORY, kind, timeout=280)
    assert done.returncode == 0, done.stderr
    points = json.loads(done.stdout.splitlines()[-1])
    (first, threads), (last, threads_after) = points[0], points[-1]
    record_property("kind", kind)
    record_property("growth MiB", round(last - first, 1))
    # A leaked batch of 4 x 32 x 32 x 3 float32 each step would be 0.05 MiB: 100 steps are 5 MiB.
    assert last - first < 4, points
    assert threads_after <= threads, points
