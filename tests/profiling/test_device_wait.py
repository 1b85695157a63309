"""A wait for the GPU spins, and is not work of the host."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from fastpipe.profiling.measure.device_wait import wait_for
from fastpipe.profiling.measure.timing import Stopwatch, cpu_seconds

GPU = torch.device("cuda", 0)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Burns CPU-seconds on a clock of its own; torch.cuda.synchronize burns one, as it spins."""
    spent = [100.0]

    def burn(seconds: float) -> None:
        spent[0] += seconds

    monkeypatch.setattr(time, "process_time", lambda: spent[0])
    monkeypatch.setattr(time, "thread_time", lambda: spent[0])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: burn(1.0))
    return burn


def test_the_spin_is_not_counted_and_the_work_is(work: Callable[[float], None]) -> None:
    before_s, watch = cpu_seconds(tree=False), Stopwatch(tree=False)
    work(0.25)
    wait_for(GPU)
    assert watch.stop(1).cpu_s == pytest.approx(0.25)
    assert cpu_seconds(tree=False) - before_s == pytest.approx(0.25)


def test_another_device_is_not_waited_for(work: Callable[[float], None]) -> None:
    before_s = time.thread_time()
    wait_for(torch.device("cpu"))
    assert time.thread_time() == before_s
