"""A machine whose own speed changes: the intervals must say so."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from fastpipe.profiling import names
from fastpipe.profiling.conclude.demand import target_timing
from fastpipe.profiling.measure import steadiness
from fastpipe.profiling.measure.setting import setting_of
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.steadiness import Steadiness, probing
from fastpipe.profiling.measure.timing import Repeat, summarize
from fastpipe.profiling.measure.workload import Options, make_workload


def stage(rates: list[float]) -> StageResult:
    timing = summarize([Repeat(images=round(1000 * rate), wall_s=1000.0, cpu_s=1.0) for rate in rates])
    return StageResult(id=names.DECODE, lane="worker", what="", timing=timing)


def probed(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> Steadiness:
    """After one probe for each duration, of which every repeat takes exactly so long."""

    def clock() -> Iterator[float]:
        now = 0.0
        for duration in seconds:
            for _ in range(steadiness._REPEATS):
                yield now
                now += duration
                yield now

    ticks = clock()
    monkeypatch.setattr(steadiness.time, "perf_counter", lambda: next(ticks))
    found = Steadiness()
    for _ in seconds:
        found.probe()
    return found


def test_a_steady_machine_leaves_the_interval_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, timed = probed(monkeypatch, [0.002] * 10), stage([90.0, 100.0, 110.0])
    assert found.scatter == pytest.approx(0.0, abs=1e-9)
    assert found.notes() == []
    low, high = timed.timing.interval.low, timed.timing.interval.high
    after = found.widened([timed])[0].timing.interval
    assert (after.low, after.high) == pytest.approx((low, high))


def test_a_machine_of_two_speeds_widens_the_interval_by_its_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds that differ by 20 %, each half the time: log 1.2 / 2 about the middle, 10 probes."""
    found = probed(monkeypatch, [0.002, 0.0024] * 5)
    expected = math.log(1.2) / 2 * math.sqrt(10 / 9)
    assert found.scatter == pytest.approx(expected)
    after = found.widened([stage([100.0, 100.0, 100.0])])[0].timing.interval
    assert after.low == pytest.approx(100.0 * math.exp(-1.96 * expected))
    assert after.high == pytest.approx(100.0 * math.exp(1.96 * expected))
    assert "10%" in found.notes()[0]


def test_a_given_rate_is_not_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    given = StageResult(id=names.MODEL, lane="model", what="given", timing=target_timing(2470.0))
    after = probed(monkeypatch, [0.002, 0.004] * 4).widened([given])[0].timing.interval
    assert (after.low, after.high) == (2470.0, 2470.0)


def test_two_probes_say_nothing_of_the_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(monkeypatch, [0.002, 0.004]).scatter == 0.0


def test_every_part_of_a_profile_is_announced_and_probed() -> None:
    parts: list[str] = []
    found = Steadiness()
    setting = probing(setting_of(make_workload(Options(data="demo")), parts.append), found)
    for part in ("files", "read", "decode"):
        setting.announce(part)
    assert parts == ["files", "read", "decode"]
    assert found.scatter > 0.0  # with fewer than three probes it is 0
