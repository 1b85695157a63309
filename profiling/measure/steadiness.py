"""How steady the machine's own speed is during a profile: one fixed computation, repeated between the stages.

A virtual machine may change its speed by a tenth within seconds. Repeats of one stage, taken within a second,
do not show that; two profiles do.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastpipe.profiling.measure.setting import Setting
from fastpipe.profiling.measure.stages import StageResult

_VALUES = 200_000
_REPEATS = 3
# Less than this is not reported.
_NOTICEABLE = 0.02


class Steadiness:
    """Call `probe` between timings; `scatter` is then the standard deviation of the speed's logarithm."""

    def __init__(self) -> None:
        """No probe yet."""
        generator = np.random.Generator(np.random.Philox(0))
        # Sorting branches, computes and goes through memory, as decoding does; about 2 ms.
        self._values = generator.random(_VALUES, dtype=np.float32)
        self._sorted = np.zeros_like(self._values)  # kept: fresh memory would time the kernel's page faults
        self._logs: list[float] = []

    def probe(self) -> None:
        """Time the computation: the median of three runs, since one may lose the CPU."""
        seconds = []
        for _ in range(_REPEATS):
            self._sorted[:] = self._values
            start_s = time.perf_counter()
            self._sorted.sort()
            seconds.append(time.perf_counter() - start_s)
        self._logs.append(math.log(statistics.median(seconds)))

    @property
    def scatter(self) -> float:
        """0.1 is a tenth. 0 with fewer than three probes."""
        return statistics.stdev(self._logs) if len(self._logs) > 2 else 0.0

    def widened(self, stages: Sequence[StageResult]) -> tuple[StageResult, ...]:
        """The stages, with 95 % intervals widened by the scatter. Given, untimed rates stay unchanged."""
        scatter = self.scatter
        return tuple(
            replace(stage, timing=replace(stage.timing, scatter=scatter)) if stage.timing.repeats else stage
            for stage in stages
        )

    def notes(self) -> list[str]:
        """A note about the scatter; nothing on a steady machine."""
        if self.scatter < _NOTICEABLE:
            return []
        return [
            f"The machine's own speed scattered by {self.scatter:.0%} during the profile (standard deviation "
            "of one computation, repeated between the stages); the intervals include it."
        ]


def probing(setting: Setting, steadiness: Steadiness) -> Setting:
    """The setting that measures the machine's speed whenever a part begins."""

    def announce(part: str) -> None:
        setting.announce(part)
        steadiness.probe()

    return replace(setting, announce=announce)
