"""backend="dali" in a forked process, which has a copy of the pipelines and none of their threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe

pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
pytestmark = [
    pytest.mark.dali,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the operating system has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])


def load(root: Path, **options: Any) -> fastpipe.DataLoader:
    options = {"batch_size": 4, "seed": 5, "engine": "none"} | options
    return fastpipe.DataLoader(ImageFolder(str(root), TRAIN), backend="dali", **options)


def same(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def in_child(work: Any) -> int:
    """The exit status of `work` in a forked process: 0 when it was true and no finalizer failed or hung."""
    pid = os.fork()
    if not pid:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout has a handler of its own
            signal.alarm(60)
            sys.unraisablehook = lambda _: os._exit(5)
            os._exit(0 if work() else 3)
        finally:
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_makes_a_pipeline_of_its_own(photos: Path) -> None:
    loader = load(photos, num_workers=1, persistent_workers=True)
    expected = [batch[0] for batch in loader]
    loader.set_epoch(0)
    assert in_child(lambda: same([batch[0] for batch in loader], expected)) == 0
    loader.set_epoch(0)
    assert same([batch[0] for batch in loader], expected)


def test_an_epoch_goes_on_in_a_forked_process(photos: Path) -> None:
    loader = load(photos, num_workers=0)
    expected = [batch[0] for batch in loader]
    loader.set_epoch(0)
    iterator = iter(loader)
    next(iterator)

    def goes_on() -> bool:
        return same([batch[0] for batch in iterator], expected[1:])

    assert in_child(goes_on) == 0
    assert goes_on()


def test_an_epoch_whose_threads_stayed_behind_raises_in_a_forked_process(photos: Path) -> None:
    iterator = iter(load(photos, num_workers=2))
    next(iterator)

    def raises() -> bool:
        with pytest.raises(RuntimeError, match="was lost when this process was forked"):
            list(iterator)
        return True

    assert in_child(raises) == 0


# The collector may come at any time, also before what fastpipe does behind a fork.
FORKS_AND_ENDS = """
import gc, os, signal, sys
gc.disable()
os.register_at_fork(after_in_child=lambda: (signal.alarm(60), gc.collect()))

from torchvision import transforms
from torchvision.datasets import ImageFolder
from fastpipe import DataLoader

pipeline = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])
photos = ImageFolder(sys.argv[1], pipeline)

def begun(num_workers):
    iterator = iter(DataLoader(photos, batch_size=4, seed=0, backend="dali", num_workers=num_workers))
    next(iterator)
    return iterator

live = begun(int(sys.argv[2]))
collected = [begun(0)]
collected.append(collected)
del collected
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_forked_process_waits_for_no_thread_of_a_pipeline(photos: Path, workers: int) -> None:
    """Neither of one that is collected there (torch's workers hung in DALI's `__del__`), nor as it exits."""
    command = [sys.executable, "-c", FORKS_AND_ENDS, str(photos), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
