"""Bootstrap over seeds with draws that any language can repeat: 32-bit integers and nothing else.

The page of `fastpipe-explore` computes the same intervals in the reader's browser, where numpy's generators
do not exist. The hash is Chris Wellons' lowbias32 (public domain, nullprogram.com/blog/2018/07/31).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastpipe.errors import ArgumentError

__all__ = ["Group"]

REPEATS = 400
"""Resamples behind an interval."""
COVERAGE = 0.95
_FEWEST_INSIDE = 0.9  # a share of the resamples; with fewer that have a value there is no interval

Floats = NDArray[np.float64]


class Group(NamedTuple):
    """Runs that differ by their seed alone: the cost and the quality of each, in the same order."""

    costs: Sequence[float]
    qualities: Sequence[float]


class Means(NamedTuple):
    """Means of groups: `[1 + repeats, groups]` each; row 0 is of all seeds, the others of resamples."""

    costs: Floats
    qualities: Floats


def checked(groups: Sequence[Group], name: str) -> Sequence[Group]:
    """`groups` if each has finite numbers, as many costs as qualities; ArgumentError otherwise."""
    for place, group in enumerate(groups):
        values = [*group.costs, *group.qualities]
        if not values or len(group.costs) != len(group.qualities) or not np.isfinite(values).all():
            raise ArgumentError(
                f"{name}[{place}] must hold as many finite costs as qualities, at least one of each. "
                f"Found: {group!r}"
            )
    return groups


def hashed(*words: NDArray[np.uint32] | int) -> NDArray[np.uint32]:
    """A 32-bit hash of words (broadcast against each other)."""
    state = np.zeros((1,), np.uint32)
    for word in words:
        state = _mixed(state ^ np.asarray(word, np.uint32))
    return state


def _mixed(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    mixed: NDArray[np.uint32] = x ^ (x >> np.uint32(16))
    return mixed


def picks(group: int, size: int, repeats: int, seed: int) -> NDArray[np.int64]:
    """Which of `size` seeds each resample takes: [repeats, size], each in 0..size-1."""
    repeat = np.arange(1, repeats + 1, dtype=np.uint32)[:, None]
    place = np.arange(size, dtype=np.uint32)[None, :]
    drawn = hashed(seed, group, repeat, place).astype(np.uint64)
    return ((drawn * np.uint64(size)) >> np.uint64(32)).astype(np.int64)


def means(groups: Sequence[Group], *, first: int = 0, repeats: int = REPEATS, seed: int = 0) -> Means:
    """The means of all groups and of their resamples. `first` numbers the groups, so that draws differ."""
    costs, qualities = (np.empty((1 + repeats, len(groups))) for _ in range(2))
    for place, group in enumerate(groups):
        taken = picks(first + place, len(group.costs), repeats, seed)
        for target, values in ((costs, group.costs), (qualities, group.qualities)):
            array = np.asarray(values, np.float64)
            target[0, place] = array.mean()
            target[1:, place] = array[taken].mean(axis=1)
    return Means(costs, qualities)


def interval(values: Floats) -> tuple[float, float] | None:
    """The central 95 % of resampled values; None if more than a tenth of them are NaN or all are equal."""
    inside = values[np.isfinite(values)]
    if len(inside) < _FEWEST_INSIDE * len(values) or not len(inside) or np.ptp(inside) == 0.0:
        return None
    tail = (1.0 - COVERAGE) / 2.0
    low, high = np.quantile(inside, [tail, 1.0 - tail])
    return float(low), float(high)
