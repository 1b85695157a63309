"""The paired t interval against scipy, and the verdicts that it gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fastpipe.efficiency.paired import Paired, paired, t_quantile, verdict
from fastpipe.errors import ArgumentError


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 9, 30, 61])
def test_quantiles_are_those_of_scipy(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
def test_the_interval_is_that_of_scipys_paired_test(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    first, second = rng.normal(75.0, 1.0, (2, seeds))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    found = paired(first.tolist(), second.tolist())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(first.mean() - second.mean()) and found.n == seeds


def test_pairing_finds_what_the_spread_of_the_seeds_hides() -> None:
    """Seeds 5 points apart, and a gain of 0.3 in each of them."""
    second = [70.0, 75.0, 80.0]
    first = [70.3, 75.31, 80.29]
    assert verdict(paired(first, second), 0.5) == "reproduced"
    assert stats.ttest_ind(first, second).pvalue > 0.9


def test_verdicts() -> None:
    above = Paired(mean=1.0, low=0.2, high=1.8, n=3)
    around = Paired(mean=1.0, low=-0.1, high=2.1, n=3)
    assert verdict(above, 0.7) == "reproduced"
    assert verdict(above, -0.7) == "reversed"
    assert verdict(around, 0.7) == verdict(around, -0.7) == "not shown"
    assert verdict(above, 0.0) == "no order published"


def test_one_seed_shows_nothing() -> None:
    one = paired([80.0], [70.0])
    assert (one.mean, one.low, one.n) == (10.0, None, 1)
    assert verdict(one, 1.0) == "not shown"


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [math.nan])])
def test_other_numbers_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ArgumentError, match="one for each seed"):
        paired(first, second)
