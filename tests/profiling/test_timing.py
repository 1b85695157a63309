"""Clocks on work of known cost. CPU time is planted by process_time, so a busy machine changes nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fastpipe.profiling import names
from fastpipe.profiling.host.summary import OtherLoad
from fastpipe.profiling.measure.stages import StageResult, overhead
from fastpipe.profiling.measure.timing import Budget, Repeat, Stopwatch, cpu_seconds, measure, summarize
from fastpipe.profiling.names import Id

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_planted_cpu_time_is_found() -> None:
    def unit() -> int:
        burn(0.004 * 5)
        return 5

    timing = measure(unit, 0.4)
    assert timing.cpu_ms.median == pytest.approx(4.0, rel=0.1)
    assert timing.repeats >= 3
    assert timing.images_per_s.low <= timing.images_per_s.median <= timing.images_per_s.high


def test_waiting_is_wall_time_and_not_cpu_time() -> None:
    def unit() -> int:
        time.sleep(0.02)
        return 2

    timing = measure(unit, 0.3)
    assert timing.wall_ms >= 10.0
    assert timing.cpu_ms.median < 2.0


def test_the_warm_up_does_not_count() -> None:
    calls = []

    def unit() -> int:
        calls.append(None)
        burn(0.5 if len(calls) == 1 else 0.02)
        return 1

    timing = measure(unit, 0.2)
    assert timing.cpu_ms.high < 100.0
    assert timing.images == len(calls) - 1


def test_a_child_counts_while_it_lives_and_after_it_was_reaped() -> None:
    """Once each: 0.5 s planted. This process only waits in a read, so it adds next to nothing itself."""
    code = BURN.format(seconds=0.5) + "print('burnt', flush=True)\ninput()"
    watch = Stopwatch()
    own_s = time.process_time()
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=-1, stdout=-1, text=True) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == "burnt\n"
            alive_s = watch.stop(1).cpu_s
            assert child.poll() is None
            child.communicate("\n", timeout=30)
        finally:
            child.kill()
    reaped_s = watch.stop(1).cpu_s
    assert time.process_time() - own_s < 0.2
    # The system counts in ticks of 10 ms, user and system apart. Twice would be a second.
    assert 0.46 <= alive_s < 0.9
    assert 0.46 <= reaped_s < 0.9
    assert cpu_seconds(tree=False) < cpu_seconds()


def test_a_spread_is_median_and_quartiles() -> None:
    repeats = [Repeat(images=10, wall_s=10 / rate, cpu_s=0.02) for rate in (100, 200, 300, 400, 500)]
    timing = summarize(repeats)
    rate = timing.images_per_s
    assert (rate.low, rate.median, rate.high) == pytest.approx((200, 300, 400))
    assert timing.cpu_ms.median == pytest.approx(2.0)
    assert timing.images == 50


def test_a_unit_that_takes_far_too_long_is_timed_once() -> None:
    budget = Budget(0.001, 3)
    assert budget.allows(0)
    time.sleep(0.01)
    assert budget.allows(0) and not budget.allows(1)


def test_the_least_repeats_are_done_even_when_the_time_is_over() -> None:
    budget = Budget(0.2, 3)
    time.sleep(0.25)
    assert budget.allows(2) and not budget.allows(3)


def test_other_processes_are_noticed_and_own_work_is_not() -> None:
    others = OtherLoad()
    burn(0.2)
    assert 0.0 <= others.share() <= 1.0


def timed(id: Id, ms: float, cpu_ms: float) -> StageResult:
    timing = summarize([Repeat(images=100, wall_s=ms / 10, cpu_s=cpu_ms / 10)])
    return StageResult(id=id, lane="worker", what="", timing=timing)


def test_overhead_is_what_the_host_half_takes_beside_its_stages() -> None:
    stages = [timed(names.READ, 0.5, 0.1), timed(names.DECODE, 3.0, 3.0), timed(names.HOP, 9.0, 9.0)]
    found = overhead(timed(names.HOST_HALF, 4.0, 3.4), stages)
    assert found is not None and found.lane == "worker"
    assert (found.timing.wall_ms, found.timing.cpu_ms.median) == pytest.approx((0.5, 0.3))
    assert overhead(timed(names.HOST_HALF, 3.4, 3.0), stages) is None
