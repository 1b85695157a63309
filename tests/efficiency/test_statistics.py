"""Frontiers, savings and their intervals against brute force, scipy and cases done by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from fastpipe.efficiency.frontier import frontier, frontier_shares
from fastpipe.efficiency.resampling import Group, hashed, interval, means, picks
from fastpipe.efficiency.savings import cost_at_quality, quality_at_cost, quality_gained, time_saved
from fastpipe.errors import ArgumentError


def dominated(costs, qualities, at):
    return any(
        costs[o] <= costs[at]
        and qualities[o] >= qualities[at]
        and ((costs[o], qualities[o]) != (costs[at], qualities[at]) or o < at)
        for o in range(len(costs))
        if o != at
    )


def test_the_frontier_equals_brute_force_with_ties():
    rng = np.random.default_rng(3)
    for _ in range(50):
        costs, qualities = rng.integers(0, 8, (2, 20)).astype(float)
        kept = frontier(costs, qualities)
        assert sorted(kept) == [at for at in range(20) if not dominated(costs, qualities, at)]
        assert list(costs[kept]) == sorted(costs[kept])


def test_points_without_a_number_are_on_no_frontier():
    nan = float("nan")
    assert frontier([1.0, nan, 2.0], [5.0, 99.0, nan]) == [0]
    assert frontier([], []) == []


def test_the_hash_is_the_published_one():
    # lowbias32(1), lowbias32(2): computed with the C code of its author.
    def lowbias32(x):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ (x >> 16)

    for word in (0, 1, 2, 0xFFFFFFFF, 123456789):
        assert hashed(word).tolist() == [lowbias32(word)]
    assert hashed(7, 9).tolist() == [lowbias32(lowbias32(7) ^ 9)]


def test_resamples_take_every_seed_equally_often_and_groups_differ():
    taken = picks(0, 5, 20_000, 0)
    counts = np.bincount(taken.ravel(), minlength=5)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert (taken != picks(1, 5, 20_000, 0)).mean() > 0.7
    assert (taken[:400] == picks(0, 5, 400, 0)).all()


def test_the_interval_of_a_mean_is_scipys_percentile_bootstrap():
    values = [76.142, 76.264, 76.054, 76.154, 76.216]
    found = means([Group([1.0] * 5, values)], repeats=20_000)
    low, high = interval(found.qualities[1:, 0])
    theirs = stats.bootstrap(
        (np.array(values),),
        np.mean,
        method="percentile",
        n_resamples=20_000,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert found.qualities[0, 0] == np.mean(values)


def test_all_resamples_of_three_seeds_by_hand():
    costs = [1.0, 2.0, 6.0]
    found = means([Group(costs, costs)], repeats=30_000).costs[1:, 0]
    exact = [np.mean(some) for some in itertools.product(costs, repeat=3)]
    assert found.mean() == pytest.approx(np.mean(exact), abs=0.02)
    assert found.std() == pytest.approx(np.std(exact), rel=0.02)


def test_costs_and_qualities_of_a_seed_stay_together():
    found = means([Group([1.0, 2.0, 5.0], [10.0, 20.0, 50.0])])
    assert np.allclose(found.qualities, 10 * found.costs)


def test_how_sure_a_frontier_is():
    sure = Group([10.0, 10.0], [70.0, 70.0])
    never = Group([20.0, 20.0], [60.0, 61.0])
    # Better than `sure` in one resample of four: 71 twice; 69 twice is worse, 69 with 71 ties.
    seldom = Group([30.0, 30.0], [69.0, 71.0])
    shares = frontier_shares([sure, never, seldom], repeats=4000)
    assert shares[:2] == [1.0, 0.0] and shares[2] == pytest.approx(0.25, abs=0.03)


def test_a_curve_is_linear_in_the_logarithm_of_cost():
    assert cost_at_quality([10.0, 1000.0], [70.0, 80.0], 75.0) == pytest.approx(100.0)
    assert quality_at_cost([10.0, 1000.0], [70.0, 80.0], 100.0) == pytest.approx(75.0)
    assert cost_at_quality([10.0, 1000.0, 500.0], [70.0, 80.0, 60.0], 80.0) == pytest.approx(1000.0)


@pytest.mark.parametrize("quality", [69.99, 80.01])
def test_outside_its_points_a_curve_says_nothing(quality):
    assert np.isnan(cost_at_quality([10.0, 1000.0], [70.0, 80.0], quality))


def test_mild_against_the_baseline_at_76_6_is_7_1():
    found = time_saved([Group([180.0], [76.6])], [Group([25.3], [76.6])])
    assert round(found.value, 1) == 7.1 and (found.baseline, found.candidate) == (180.0, 25.3)
    assert (found.low, found.high) == (None, None), "one seed on each side has no interval"


def test_a_baseline_that_never_gets_there_has_no_time():
    found = time_saved([Group([180.0], [76.6])], [Group([52.4], [78.1])])
    assert (found.value, found.baseline, found.candidate, found.at) == (None, None, 52.4, 78.1)


def test_savings_at_a_quality_interpolate_both_sides():
    baseline = [Group([100.0], [70.0]), Group([400.0], [80.0])]
    candidate = [Group([10.0], [70.0]), Group([40.0], [80.0])]
    assert time_saved(baseline, candidate, quality=74.0).value == pytest.approx(10.0)
    gained = quality_gained([Group([10.0], [70.0]), Group([40.0], [80.0])], [Group([20.0], [77.0])])
    assert gained.value == pytest.approx(2.0) and gained.baseline == pytest.approx(75.0)


def test_the_interval_of_a_ratio_is_scipys():
    rng = np.random.default_rng(0)
    slow, fast = rng.normal(100, 10, 8), rng.normal(20, 2, 8)
    found = time_saved([Group(slow, [76.0] * 8)], [Group(fast, [76.0] * 8)], repeats=10_000)
    theirs = stats.bootstrap(
        (slow, fast),
        lambda a, b, axis: a.mean(axis) / b.mean(axis),
        method="percentile",
        n_resamples=10_000,
        vectorized=True,
        random_state=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=0.01)
    assert found.value == pytest.approx(slow.mean() / fast.mean())


def test_an_interval_needs_most_resamples_inside_the_baselines_range():
    baseline = [Group([100.0, 100.0], [70.0, 70.0]), Group([400.0] * 2, [79.0, 81.0])]
    found = time_saved(baseline, [Group([30.0], [80.0])])
    assert found.value == pytest.approx(400 / 30), "the mean curve ends at 80"
    assert found.low is None, "a quarter of the resamples end at 79"


@pytest.mark.parametrize(
    ("baseline", "candidate", "message"),
    [
        ([Group([], [])], [Group([1.0], [1.0])], r"baseline\[0\] must hold"),
        ([Group([1.0], [1.0])], [Group([1.0, 2.0], [1.0])], r"candidate\[0\] must hold"),
        ([Group([float("nan")], [1.0])], [Group([1.0], [1.0])], "finite"),
        ([Group([1.0], [1.0])], [Group([0.0], [1.0])], "costs above 0"),
        ([Group([1.0], [1.0])], [Group([1.0], [1.0])] * 2, "quality must be given for a candidate of 2"),
    ],
)
def test_numbers_that_cannot_be_compared_are_refused(baseline, candidate, message):
    with pytest.raises(ArgumentError, match=message):
        time_saved(baseline, candidate)
