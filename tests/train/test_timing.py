"""The time to train, by the reference text's rule, and the clock that feeds it."""

from __future__ import annotations

import time

import pytest

from fastpipe.train.timing import EpochClock, time_to_train


def test_first_epoch_counts_as_long_as_the_second() -> None:
    assert time_to_train([100.0, 10.0, 12.0]) == 32.0
    assert time_to_train([100.0]) == 100.0
    assert time_to_train([]) == 0.0


def test_clock_tells_waiting_from_working() -> None:
    def slow() -> object:
        for _ in range(3):
            time.sleep(0.06)
            yield 0

    clock = EpochClock()
    for _ in clock.over(slow()):
        time.sleep(0.02)
        clock.count(8)
    clock.stop()
    assert clock.images == 24
    assert clock.wait_s >= 0.18 and clock.total_s >= 0.24
    assert clock.total_s - clock.wait_s >= 0.06
    assert clock.wait_share == pytest.approx(clock.wait_s / clock.total_s)
    assert clock.images_per_s == pytest.approx(24 / clock.total_s)
