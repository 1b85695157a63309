"""The scaling law on rates made by it, with and without noise; and demands that were published."""

from __future__ import annotations

import numpy as np
import pytest

from fastpipe.errors import ArgumentError
from fastpipe.profiling.conclude.demand import published, rate_of
from fastpipe.profiling.conclude.scaling import fit, worker_counts
from fastpipe.profiling.measure.timing import interval, student


def law(one: float, contention: float, coherency: float, n: int) -> float:
    return one * n / (1 + contention * (n - 1) + coherency * n * (n - 1))


def test_the_parameters_of_exact_rates_are_found_again() -> None:
    curve = fit({n: [law(900.0, 0.05, 0.002, n)] * 3 for n in (1, 2, 4, 8, 16)})
    assert (curve.one, curve.contention, curve.coherency) == pytest.approx((900.0, 0.05, 0.002), rel=1e-6)
    far = curve.at(32)
    assert far.median == pytest.approx(law(900.0, 0.05, 0.002, 32), rel=1e-6)
    assert far.low == pytest.approx(far.high)


def test_two_counts_give_amdahls_law_and_one_gives_a_line() -> None:
    two = fit({1: [1000.0, 1000.0], 2: [1600.0, 1600.0]})
    assert two.coherency == 0.0 and two.contention == pytest.approx(0.25)
    assert two.at(4).median == pytest.approx(law(1000.0, 0.25, 0.0, 4))
    assert fit({1: [1000.0]}).at(4).median == pytest.approx(4000.0)


def test_more_than_linear_growth_is_noise_and_not_a_law() -> None:
    curve = fit({1: [1000.0], 2: [2100.0], 4: [4300.0]})
    assert curve.contention == 0.0 and curve.coherency == 0.0


def test_intervals_hold_the_truth_nine_times_of_ten() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(40):
        noisy = {
            n: [law(500.0, 0.08, 0.0, n) * float(np.exp(rng.normal(0, 0.05))) for _ in range(5)]
            for n in (1, 2, 4)
        }
        found = fit(noisy).at(4)
        held += found.low <= law(500.0, 0.08, 0.0, 4) <= found.high
    assert held >= 34


def test_the_interval_grows_with_the_distance() -> None:
    curve = fit({1: [1000.0, 1040.0, 980.0], 2: [1800.0, 1900.0, 1750.0]})
    near, far = curve.at(2), curve.at(64)
    assert (far.high - far.low) / far.median > 2 * (near.high - near.low) / near.median


def test_rates_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        fit({1: [0.0]})


def test_worker_counts_end_with_the_number_asked() -> None:
    assert worker_counts(0) == []
    assert worker_counts(1) == [1]
    assert worker_counts(6) == [1, 2, 4, 6]
    assert worker_counts(8) == [1, 2, 4, 8]


def test_students_interval_of_four_rates() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    for freedom in (1, 5, 10, 11, 20, 60):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.004)
    found = interval([90.0, 110.0, 100.0, 105.0])
    assert found.low < 100.0 < found.high


def test_published_rates_name_their_source_and_ratios_are_those_of_the_tables() -> None:
    rates = {row.name: row.images_per_s for row in published()}
    assert rates["hot-aws"] / rates["hot-oracle"] == pytest.approx(0.64, abs=0.005)
    assert rates["mild-aws"] / rates["mild-oracle"] == pytest.approx(0.97, abs=0.005)
    assert all(row.source and row.table and row.gpus for row in published())
    assert rate_of("hot-aws")[0] == 9225 and "AWS" in rate_of("hot-aws")[1]
    assert rate_of("2470") == (2470.0, "given")


@pytest.mark.parametrize("wrong", ["-1", "0", "nan", "inf", "hot-azure"])
def test_a_target_that_is_none_lists_what_is_allowed(wrong: str) -> None:
    with pytest.raises(ArgumentError, match="hot-aws"):
        rate_of(wrong)
