"""The time to train, by the reference text's rule, and the clock that feeds it."""

from __future__ import annotations

import time

import pytest

from fastpipe.efficiency.durations import time_to_train
from fastpipe.train.timing import EpochClock


def test_first_epoch_counts_as_long_as_the_second() -> None:
    assert time_to_train([100.0, 10.0, 12.0]) == 32.0
    assert time_to_train([100.0]) == 100.0
    assert time_to_train([]) == 0.0


def test_a_step_lasts_from_the_end_of_the_one_before_without_what_is_left_out() -> None:
    clock, seconds = EpochClock(), []
    for number, _ in enumerate(clock.over([0, 0, 0])):
        if number == 1:
            time.sleep(0.05)
        seconds.append(clock.count(8))
        if number == 1:
            time.sleep(0.08)  # a checkpoint
            clock.leave_out(0.08)
    assert sum(seconds) == pytest.approx(clock.counted_s) and seconds[1] >= 0.05
    # Continued: the first step does not hold what came before the interruption.
    again = EpochClock(total_s=100.0)
    (first,) = [again.count(8) for _ in again.over([0])]
    assert first < 100.0


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
