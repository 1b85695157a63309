"""How the loader's rate grows with its workers: Gunther's universal scalability law, fitted with an interval.

    X(n) = one n / (1 + contention (n - 1) + coherency n (n - 1))

Without coherency it is Amdahl's law, which two worker counts can determine. Coherency needs three.
N. J. Gunther, Guerrilla Capacity Planning, Springer 2007, chapter 4. Pure functions of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.profiling.measure.timing import Spread

Floats = npt.NDArray[np.float64]

_DRAWS = 400
# The assumed uncertainty of a single repeat: repeats on a shared machine differ by that much.
_UNKNOWN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The fitted law, and the same fit of resampled measurements in `draws` [400, 3]."""

    one: float
    contention: float
    coherency: float
    draws: Floats
    measured: Mapping[int, Spread]

    def sample(self, workers: float) -> Floats:
        """images/s with so many workers by each of the resampled fits."""
        return _law(self.draws, workers)

    def at(self, workers: float) -> Spread:
        """images/s with so many workers, and where 95 % of the resampled fits lie."""
        centre = float(_law(np.array([[self.one, self.contention, self.coherency]]), workers)[0])
        low, high = np.quantile(self.sample(workers), (0.025, 0.975)).tolist()
        return Spread(median=centre, low=min(low, centre), high=max(high, centre))


def worker_counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most`; nothing for 0."""
    counts = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return [*counts, most] if most > 0 else []


def fit(rates: Mapping[int, Sequence[float]]) -> Curve:
    """The law through images/s of some repeats per worker count. ValueError without a positive rate."""
    if not rates or not all(found and min(found) > 0.0 for found in rates.values()):
        raise ValueError(f"rates must be positive, at least one per worker count. Found: {dict(rates)!r}")
    counts = np.array(sorted(rates), dtype=np.float64)
    logs = [np.log(np.asarray(rates[int(count)], dtype=np.float64)) for count in counts]
    means = np.array([float(found.mean()) for found in logs])
    noise = _noise(logs, np.random.Generator(np.random.Philox(0)))
    one, contention, coherency = _fit(counts, np.exp(means)).tolist()
    return Curve(
        one=one,
        contention=contention,
        coherency=coherency,
        draws=np.stack([_fit(counts, np.exp(means + shift)) for shift in noise]),
        measured={int(count): _spread(found) for count, found in zip(counts, logs, strict=True)},
    )


def _spread(logs: Floats) -> Spread:
    low, median, high = np.exp(np.quantile(logs, (0.25, 0.5, 0.75))).tolist()
    return Spread(median=median, low=low, high=high)


def _noise(logs: Sequence[Floats], rng: np.random.Generator) -> Floats:
    """Shifts of the means of log rates [400, counts]: Student's t of the repeats."""
    columns = []
    for found in logs:
        if len(found) < 2:
            columns.append(rng.normal(0.0, _UNKNOWN, _DRAWS))
            continue
        error = float(found.std(ddof=1)) / np.sqrt(len(found))
        columns.append(error * rng.standard_t(len(found) - 1, _DRAWS))
    return np.stack(columns, axis=1)


def _fit(counts: Floats, rates: Floats) -> Floats:
    """(one, contention, coherency) with the least relative error of n / X; neither is below zero."""
    columns = [np.ones_like(counts), counts - 1.0, counts * (counts - 1.0)][: len(counts)]
    scale = rates / counts
    best: tuple[float, Any] = (np.inf, None)
    # With three columns at most, trying every subset of the last two is the exact non-negative fit.
    for kept in (kept for size in range(len(columns)) for kept in combinations(range(1, len(columns)), size)):
        matrix = np.stack([columns[place] * scale for place in (0, *kept)], axis=1)
        found = np.linalg.lstsq(matrix, np.ones_like(counts), rcond=None)[0]
        error = float(((matrix @ found - 1.0) ** 2).sum())
        if (found > 0.0).all() and error < best[0] - 1e-15:
            best = (error, dict(zip((0, *kept), found.tolist(), strict=True)))
    inverse = best[1][0]
    return np.array([1.0 / inverse, best[1].get(1, 0.0) / inverse, best[1].get(2, 0.0) / inverse])


def _law(parameters: Floats, workers: float) -> Floats:
    one, contention, coherency = parameters.T
    result: Floats = (
        one * workers / (1.0 + contention * (workers - 1.0) + coherency * workers * (workers - 1.0))
    )
    return result
