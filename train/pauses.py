"""Between two steps: has a signal asked to stop, is a checkpoint due? All ranks get the same answer.

SIGTERM and SIGINT only set a flag; the step at hand is finished first. Each rank brings its flag, rank 0 also
its clock, and the largest counts, so that every rank stops and saves after the same step.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from fastpipe.train.distributed import maxima
from fastpipe.train.errors import StoppedError
from fastpipe.train.interval import Interval

__all__ = ["Pauses"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A terminal sends Ctrl-C to every process, and torchrun sends it again to its own.
_AGAIN_S = 2.0


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
        self._asked = 0
        self._asked_at = 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[Pauses]:
        """Inside the block SIGTERM and SIGINT ask to stop; a second Ctrl-C later on interrupts at once.

        Outside the main thread, where Python allows no handlers, signals keep their meaning.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT and self._now() - self._asked_at > _AGAIN_S:
            raise KeyboardInterrupt
        self._asked, self._asked_at = max(self._asked, number), self._now()

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
        number, save = maxima([self._asked, int(overdue)])
        if number:
            raise StoppedError(number)
        return save

    def saved(self) -> None:
        """A checkpoint was written: the minutes count from here."""
        self._saved_at = self._now()
