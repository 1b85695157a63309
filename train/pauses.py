"""Between two steps: has a signal asked to stop, is a checkpoint due? All ranks get the same answer.

A signal is only noted (`fastpipe/system/stop_signals.py`); the current step is finished first. Each rank
reports its signal, and rank 0 also its clock. The largest value counts, so that every rank stops and saves
after the same step.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fastpipe.system.stop_signals import asked
from fastpipe.train.distributed import maxima
from fastpipe.train.errors import StoppedError
from fastpipe.train.interval import Interval


class Pauses:
    """Answers for one run. `interval` None: no checkpoint is due within an epoch."""

    def __init__(
        self,
        interval: Interval | None = None,
        *,
        steps_per_epoch: int = 1,
        rank: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval or Interval()
        self._steps_per_epoch = steps_per_epoch
        self._rank = rank
        self._now = now
        self._saved_at = now()

    def after_step(self, step: int) -> bool:
        """Whether to save with `step` steps done, in mid-epoch. Raises StoppedError when a signal came."""
        due = self._interval.due(step, self._steps_per_epoch) and step % self._steps_per_epoch != 0
        return bool(self._agreed()) or due

    def after_epoch(self, step: int) -> bool:
        """Whether to save at an epoch's end, after its validation. Raises StoppedError when a signal came."""
        return bool(self._agreed()) or self._interval.due(step, self._steps_per_epoch)

    def check(self) -> None:
        """Raise StoppedError when a signal came to any rank."""
        self._agreed()

    def _agreed(self) -> int:
        overdue = self._rank == 0 and 0.0 < self._interval.minutes * 60.0 <= self._now() - self._saved_at
        number, save = maxima([asked(), int(overdue)])
        if number:
            raise StoppedError(number)
        return save

    def saved(self) -> None:
        """A checkpoint was written: the minutes count from here."""
        self._saved_at = self._now()
