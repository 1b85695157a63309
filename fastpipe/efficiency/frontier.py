"""Pareto frontiers of cost and quality, and how sure it is that a group of runs lies on one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastpipe.efficiency.resampling import REPEATS, Group, checked, means

__all__ = ["frontier_shares"]


def frontier(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Positions of the points that no other point dominates, by rising cost.

    A point dominates another if it costs at most as much and is at least as good, and differs. Of equal
    points the first counts. Points with a NaN are left out.
    """
    usable = [at for at in range(len(costs)) if np.isfinite(costs[at]) and np.isfinite(qualities[at])]
    kept: list[int] = []
    for at in sorted(usable, key=lambda at: (costs[at], -qualities[at], at)):
        if not kept or qualities[at] > qualities[kept[-1]]:
            kept.append(at)
    return kept


def frontier_shares(groups: Sequence[Group], *, repeats: int = REPEATS, seed: int = 0) -> list[float]:
    """For each group the share of resamples, 0..1, in which its mean lies on the frontier of all groups.

    Seeds are resampled within each group. A group of one seed does not vary, so its share says only whether
    the others would displace it. Raises ArgumentError for an empty group or a number that is not finite.
    """
    found = means(checked(groups, "groups"), repeats=repeats, seed=seed)
    counts = np.zeros(len(groups))
    for costs, qualities in zip(found.costs[1:], found.qualities[1:], strict=True):
        counts[frontier(costs.tolist(), qualities.tolist())] += 1
    return [float(count) / repeats for count in counts]
