"""A difference between two arms whose runs share their seeds: its t interval, and what it says of a claim.

Runs of one seed draw the same images in the same order, so the differences within the seeds are compared.
With three seeds an exact test of their signs cannot fall below p = 0.25, whatever the values are; Student's t
can tell, and pays for it with the assumption that the differences are normal (docs/design/028-study.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fastpipe.errors import ArgumentError

__all__ = ["Paired", "Verdict", "paired", "verdict"]

Verdict = Literal["reproduced", "reversed", "not shown", "no order published"]
COVERAGE = 0.95


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The mean of n differences with its 95 % interval; None with fewer than two seeds."""

    mean: float
    low: float | None
    high: float | None
    n: int


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """first - second, seed by seed: the mean and mean ± t(0.975, n - 1) * s / sqrt(n).

    Raises ArgumentError for sequences that are empty, of different lengths or not finite.
    """
    values = [*first, *second]
    if not values or len(first) != len(second) or not all(map(math.isfinite, values)):
        raise ArgumentError(
            "first and second must hold as many finite numbers, one for each seed, at least one. "
            f"Found: {list(first)}, {list(second)}"
        )
    differences = [one - other for one, other in zip(first, second, strict=True)]
    mean, n = statistics.fmean(differences), len(differences)
    if n < 2:
        return Paired(mean=mean, low=None, high=None, n=n)
    half = t_quantile(n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return Paired(mean=mean, low=mean - half, high=mean + half, n=n)


def verdict(found: Paired, published: float) -> Verdict:
    """What an interval says of a published difference.

    "reproduced" and "reversed": the interval leaves out 0, on the published side or on the other. An interval
    that holds 0, or none at all, is "not shown". A published difference of 0 has no order to reproduce.
    """
    if published == 0.0:
        return "no order published"
    if found.low is None or found.high is None or found.low <= 0.0 <= found.high:
        return "not shown"
    return "reproduced" if (found.low > 0.0) == (published > 0.0) else "reversed"


def t_quantile(degrees: int) -> float:
    """The bound that |t| of Student's distribution stays below with probability 0.95, by bisection."""
    low, high = 0.0, 16.0  # 12.7 is that of one degree, the largest
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, degrees) < COVERAGE else (low, middle)
    return high


def _inside(t: float, degrees: int) -> float:
    """P(|T| < t): for whole degrees of freedom, by Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    return 2.0 / math.pi * (angle + sine * total) if odd else sine * total
