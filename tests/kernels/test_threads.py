"""The thread pool: every item once, errors come out, forks and many callers work."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fastpipe import kernels

IMAGES = torch.randint(0, 256, (16, 20, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
OPS = np.full((16, 1), kernels.OPS["sharpness"])
VALUES = np.full((16, 1), 1.7)


def work(num_threads: int) -> torch.Tensor:
    images = kernels.augment_batch(IMAGES, OPS, VALUES, None, None, None, num_threads=num_threads)
    return kernels.finish(images, torch.empty(16, 3, 20, 30), None, num_threads=num_threads)


@pytest.mark.parametrize("num_items", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_every_item_once(num_items: int, num_threads: int) -> None:
    counts = np.zeros(num_items, np.int64)
    lock = threading.Lock()

    def count(start: int, stop: int) -> None:
        assert 0 <= start < stop <= num_items
        with lock:
            counts[start:stop] += 1

    kernels.run_ranges(count, num_items, num_threads)
    assert (counts == 1).all()


def test_several_threads_really_run_at_once() -> None:
    # Each range waits for the other: with one thread at a time the barrier breaks.
    barrier = threading.Barrier(2, timeout=30)
    first_of: set[int] = set()

    def meet(start: int, stop: int) -> None:
        if threading.get_ident() not in first_of:
            first_of.add(threading.get_ident())
            barrier.wait()

    kernels.run_ranges(meet, 8, 2)
    assert len(first_of) == 2


def test_one_thread_runs_inline() -> None:
    seen: list[tuple[int, int, int]] = []
    kernels.run_ranges(lambda a, b: seen.append((threading.get_ident(), a, b)), 9, 1)
    assert seen == [(threading.get_ident(), 0, 9)]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_error_comes_out_and_the_pool_lives_on(num_threads: int) -> None:
    def fail(start: int, stop: int) -> None:
        if start <= 5 < stop:
            raise KeyError("item 5")

    with pytest.raises(KeyError, match="item 5"):
        kernels.run_ranges(fail, 20, num_threads)
    assert torch.equal(work(num_threads), work(1))


@pytest.mark.parametrize("num_threads", [0, -1, 257])
def test_a_wrong_number_of_threads_is_refused(num_threads: int) -> None:
    with pytest.raises(ValueError, match=rf"num_threads must be in 1\.\.256\. Found: {num_threads}"):
        work(num_threads)


def test_many_callers_at_once() -> None:
    expected = work(1)
    with ThreadPoolExecutor(6) as callers:
        results = list(callers.map(lambda _: work(3), range(24)))
    assert all(torch.equal(result, expected) for result in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the operating system has no fork")
def test_works_in_a_forked_child() -> None:
    expected = work(2)
    child = os.fork()
    if child == 0:
        # No pytest in the child: only an exit status leaves it.
        code = 1
        try:
            code = 0 if torch.equal(work(2), expected) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert torch.equal(work(2), expected)
