"""Time saved at equal quality, and quality gained at equal time, against a baseline's curve.

A curve is the frontier of a recipe's runs of different lengths. Between two of its points quality is linear
in the logarithm of cost (docs/design/020-explorer.md has the measured error of this and of the linear rule).
Outside its points a curve says nothing: a baseline that never reached a quality has no time there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastpipe.efficiency.frontier import frontier
from fastpipe.efficiency.resampling import REPEATS, Floats, Group, Means, checked, interval, means
from fastpipe.errors import ArgumentError

__all__ = ["Compared", "time_saved"]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two sides of a comparison: `value` with its 95 % interval; None where a side has no figure."""

    value: float | None
    """Baseline's cost over the candidate's, or the candidate's quality minus the baseline's."""
    low: float | None
    high: float | None
    baseline: float | None
    candidate: float | None
    at: float
    """The quality, or the cost, at which the two are compared."""


def cost_at_quality(costs: Sequence[float], qualities: Sequence[float], quality: float) -> float:
    """The cost at which a curve reaches `quality`; NaN outside the curve's points. Costs are above 0."""
    on = frontier(costs, qualities)
    return _interpolated([qualities[at] for at in on], np.log([costs[at] for at in on]), quality, exp=True)


def quality_at_cost(costs: Sequence[float], qualities: Sequence[float], cost: float) -> float:
    """The quality that a curve has at `cost`; NaN outside the curve's points. Costs are above 0."""
    on = frontier(costs, qualities)
    return _interpolated(np.log([costs[at] for at in on]), [qualities[at] for at in on], np.log(cost))


def _interpolated(
    x: Sequence[float] | Floats, y: Sequence[float] | Floats, at: float, exp: bool = False
) -> float:
    # A quality that was printed as 76.6 must find the point 76.6, whatever a mean's last bit is.
    slack = 1e-9 * max(1.0, abs(at))
    if not len(x) or not x[0] - slack <= at <= x[-1] + slack:
        return float("nan")
    found = float(np.interp(at, x, y))
    return float(np.exp(found)) if exp else found


def time_saved(
    baseline: Sequence[Group],
    candidate: Sequence[Group],
    *,
    quality: float | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Compared:
    """How many times the candidate's cost the baseline needs for the same quality.

    `quality`: where to compare, interpolated on both curves. None: at the candidate's own, which is then one
    group. The interval is of the ratio, over resampled seeds of both. Raises ArgumentError for groups without
    finite costs above 0, or several groups without a quality.
    """
    ours, theirs = _both(baseline, candidate, quality is None, "quality", repeats, seed)
    wanted = ours.qualities[:, 0] if quality is None else np.full(1 + repeats, quality)
    needed = _each(cost_at_quality, theirs, wanted)
    spent = ours.costs[:, 0] if quality is None else _each(cost_at_quality, ours, wanted)
    return _compared(needed / spent, needed, spent, wanted)


def quality_gained(
    baseline: Sequence[Group],
    candidate: Sequence[Group],
    *,
    cost: float | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Compared:
    """The candidate's quality minus the baseline's at the same cost; None: at the candidate's own cost."""
    ours, theirs = _both(baseline, candidate, cost is None, "cost", repeats, seed)
    wanted = ours.costs[:, 0] if cost is None else np.full(1 + repeats, cost)
    reached = ours.qualities[:, 0] if cost is None else _each(quality_at_cost, ours, wanted)
    usual = _each(quality_at_cost, theirs, wanted)
    return _compared(reached - usual, usual, reached, wanted)


def _both(
    baseline: Sequence[Group], candidate: Sequence[Group], one: bool, name: str, repeats: int, seed: int
) -> tuple[Means, Means]:
    for groups, of in ((baseline, "baseline"), (candidate, "candidate")):
        for place, group in enumerate(checked(groups, of)):
            if min(group.costs) <= 0.0:
                raise ArgumentError(f"{of}[{place}] must have costs above 0. Found: {min(group.costs)}")
    if one and len(candidate) != 1:
        raise ArgumentError(f"{name} must be given for a candidate of {len(candidate)} groups. Found: None")
    theirs = means(baseline, repeats=repeats, seed=seed)
    return means(candidate, first=len(baseline), repeats=repeats, seed=seed), theirs


def _each(rule: object, curves: Means, wanted: Floats) -> Floats:
    assert callable(rule)
    rows = zip(curves.costs.tolist(), curves.qualities.tolist(), wanted.tolist(), strict=True)
    return np.array([rule(costs, qualities, at) for costs, qualities, at in rows])


def _compared(values: Floats, baseline: Floats, candidate: Floats, at: Floats) -> Compared:
    span = interval(values[1:]) if np.isfinite(values[0]) else None
    value, ours, theirs = (
        float(x) if np.isfinite(x) else None for x in (values[0], candidate[0], baseline[0])
    )
    low, high = span if span is not None else (None, None)
    return Compared(value=value, low=low, high=high, baseline=theirs, candidate=ours, at=float(at[0]))
