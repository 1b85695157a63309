"""The arithmetic of the page, in JavaScript, gives what fastpipe.efficiency gives: the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastpipe.explore.page.build as build
from fastpipe.efficiency.frontier import frontier, frontier_shares
from fastpipe.efficiency.resampling import Group, hashed, picks
from fastpipe.efficiency.savings import quality_gained, time_saved

pytestmark = [pytest.mark.slow, pytest.mark.debian, pytest.mark.timeout(200)]
SOURCE = (Path(build.__file__).parent / "methods.js").read_text(encoding="utf-8")


@pytest.fixture
def call(browser):
    """Evaluates an expression over methods.js; `a` are the arguments. NaN comes back as None."""

    def run(expression: str, *arguments):
        return browser.execute_script(
            f"{SOURCE}; const a = arguments; return JSON.parse(JSON.stringify({expression}))", *arguments
        )

    return run


def groups(rng: np.random.Generator, count: int, seeds: int) -> list[Group]:
    return [
        Group(
            (10.0 * 2.0**place * rng.uniform(0.8, 1.2, seeds)).tolist(),
            (60 + 5 * place + rng.normal(0, 0.7, seeds)).tolist(),
        )
        for place in range(count)
    ]


def plain(found: list[Group]) -> list[dict]:
    return [{"costs": list(group.costs), "qualities": list(group.qualities)} for group in found]


def close(found: dict, wanted) -> None:
    for name in ("value", "low", "high", "baseline", "candidate", "at"):
        expected = getattr(wanted, name)
        assert found[name] == (None if expected is None else pytest.approx(expected, rel=1e-9)), name


def test_the_draws_are_the_same(call):
    words = [0, 1, 77, 0xFFFFFFFF, 12345]
    assert call("a[0].map(w => hashed(w, 3))", words) == [int(hashed(w, 3)[0]) for w in words]
    values = list(range(7))
    found = call("means([{costs: a[0], qualities: a[0]}], 2, 50, 9).map(r => r.costs[0])", values)
    assert found[1:] == pytest.approx(picks(2, 7, 50, 9).mean(axis=1).tolist())


def test_frontiers_and_shares_are_the_same(call):
    rng = np.random.default_rng(5)
    for _ in range(20):
        costs, qualities = rng.integers(0, 6, (2, 15)).astype(float).tolist()
        assert call("frontier(a[0], a[1])", costs, qualities) == frontier(costs, qualities)
    some = groups(rng, 6, 4)
    assert call("frontierShares(a[0])", plain(some)) == frontier_shares(some)


@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("at", [None, 68.0, 99.0])
def test_savings_and_gains_are_the_same(call, seeds, at):
    rng = np.random.default_rng(seeds)
    baseline, candidate = groups(rng, 5, seeds), groups(rng, 1 if at is None else 4, seeds)
    found = call("timeSaved(prepared(a[0]), a[1], a[2])", plain(baseline), plain(candidate), at)
    close(found, time_saved(baseline, candidate, quality=at))
    found = call("qualityGained(prepared(a[0]), a[1], a[2])", plain(baseline), plain(candidate), at)
    close(found, quality_gained(baseline, candidate, cost=at))
