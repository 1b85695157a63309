"""How a stage is timed: wall clock and CPU of the process tree, warm-up dropped, median and quartiles."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from fastpipe.profiling.measure.device_wait import spun_seconds

# A shorter repeat would count the 10 ms ticks of other processes' CPU time.
_SHORTEST_REPEAT_S = 0.05
_MOST_REPEATS = 50
# On a busy machine a step can take 50 times as long: few repeats are better than no answer.
_OVERDRAWN = 4.0
# Student's t at 97.5 % for 1 to 10 degrees of freedom.
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One timed repeat: images done, seconds on the wall, CPU-seconds of the process tree."""

    images: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of some repeats, with their first and third quartile."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What a stage costs. `cpu_ms` is CPU-milliseconds per image, of all processes and threads together."""

    images_per_s: Spread
    cpu_ms: Spread
    repeats: int
    images: int
    rates: tuple[float, ...] = ()
    """images/s of each repeat, if the figure has its own repeats."""
    scatter: float = 0.0
    """Standard deviation of the logarithm of the machine's own speed, from one second to another."""

    @property
    def interval(self) -> Spread:
        """images/s with the 95 % interval of its mean, by Student's t on logarithms, and the scatter.

        With none or one repeat of its own, the repeats add nothing, since their spread is unknown.
        """
        return widened(interval(self.rates) if len(self.rates) > 1 else self._point(), self.scatter)

    def _point(self) -> Spread:
        rate = self.images_per_s.median
        return Spread(median=rate, low=rate, high=rate)

    @property
    def wall_ms(self) -> float:
        """Milliseconds per image on the wall (median)."""
        return 1000.0 / self.images_per_s.median


def _children_seconds() -> float:
    """CPU-seconds of all descendants: living ones by psutil, ended ones as their parents' children."""
    times = os.times()
    total = times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        # Only Linux reports the ended children of children.
        total += spent.user + spent.system
        total += getattr(spent, "children_user", 0.0) + getattr(spent, "children_system", 0.0)
    return total


def cpu_seconds(*, tree: bool = True) -> float:
    """CPU-seconds of this process, and with `tree` of its descendants, ended ones included.

    Time in which a thread waited for a GPU is excluded (`device_wait`).
    """
    return _own_seconds() + (_children_seconds() if tree else 0.0)


def _own_seconds() -> float:
    return time.process_time() - spun_seconds()


class Stopwatch:
    """Times one repeat. The walk over the process tree (3 ms with 90 processes) is not part of it."""

    def __init__(self, *, tree: bool = True) -> None:
        self._tree = tree
        self._children = _children_seconds() if tree else 0.0
        self._own = _own_seconds()
        self._wall = time.perf_counter()

    def stop(self, images: int) -> Repeat:
        """The repeat that ends now."""
        wall_s = time.perf_counter() - self._wall
        cpu_s = _own_seconds() - self._own
        if self._tree:
            cpu_s += _children_seconds() - self._children
        return Repeat(images=images, wall_s=wall_s, cpu_s=max(cpu_s, 0.0))


def measure(
    unit: Callable[[], int], seconds: float, *, tree: bool = False, min_repeats: int = 3, warm_up: int = 1
) -> Timing:
    """Call `unit`, which returns how many images it did, for about `seconds`; the warm-up calls do not count.

    A repeat has as many units as take a tenth of the time. tree: also count the CPU of other processes.
    At least `min_repeats` are timed, unless they take more than four times as long as asked: then one.
    """
    single_s = _warm(unit, warm_up)
    per_repeat = max(1, round(max(seconds / 10, _SHORTEST_REPEAT_S) / max(single_s, 1e-9)))
    budget = Budget(seconds, min_repeats)
    repeats: list[Repeat] = []
    while budget.allows(len(repeats)):
        watch = Stopwatch(tree=tree)
        images = sum(unit() for _ in range(per_repeat))
        repeats.append(watch.stop(images))
    return summarize(repeats)


class Budget:
    """Whether there is time for one more repeat."""

    def __init__(self, seconds: float, min_repeats: int) -> None:
        self._seconds = seconds
        self._min_repeats = min_repeats
        self._start_s = time.perf_counter()

    def allows(self, done: int) -> bool:
        """Whether another repeat should start after `done` of them."""
        spent_s = time.perf_counter() - self._start_s
        if done < self._min_repeats:
            return done == 0 or spent_s < _OVERDRAWN * self._seconds
        return done < _MOST_REPEATS and spent_s < self._seconds


def _warm(unit: Callable[[], int], calls: int) -> float:
    """Seconds of the last of `calls` warm-up calls (at least one)."""
    single_s = 0.0
    for _ in range(max(1, calls)):
        before = time.perf_counter()
        unit()
        single_s = time.perf_counter() - before
    return single_s


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; from 11 degrees on within 0.3 % by 1.96 + 2.6 / degrees."""
    return _T975[freedom - 1] if freedom <= len(_T975) else 1.96 + 2.6 / freedom


def interval(rates: Sequence[float]) -> Spread:
    """The geometric mean of at least two rates with its 95 % interval, were the repeats independent."""
    logs = np.log(np.maximum(np.asarray(rates, dtype=np.float64), 1e-12))
    centre = float(logs.mean())
    half = student(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return Spread(median=math.exp(centre), low=math.exp(centre - half), high=math.exp(centre + half))


def widened(found: Spread, scatter: float) -> Spread:
    """A 95 % interval of images/s; its sides widened, by squares, by the scatter of the machine's speed."""
    below = math.hypot(math.log(found.median / found.low), 1.96 * scatter)
    above = math.hypot(math.log(found.high / found.median), 1.96 * scatter)
    median = found.median
    return Spread(median=median, low=median * math.exp(-below), high=median * math.exp(above))


def summarize(repeats: Sequence[Repeat]) -> Timing:
    """Median and quartiles of images/s and CPU-milliseconds per image over the repeats."""
    return Timing(
        images_per_s=_spread([repeat.images / max(repeat.wall_s, 1e-9) for repeat in repeats]),
        cpu_ms=_spread([1000.0 * repeat.cpu_s / repeat.images for repeat in repeats]),
        repeats=len(repeats),
        images=sum(repeat.images for repeat in repeats),
        rates=tuple(repeat.images / max(repeat.wall_s, 1e-9) for repeat in repeats),
    )


def _spread(values: Sequence[float]) -> Spread:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Spread(median=median, low=low, high=high)
