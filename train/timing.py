"""Clocks of training: how long an epoch took, and how much of it was waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class EpochClock:
    """Seconds of one epoch; `wait_s` is the part spent in the loader's `next`."""

    images: int = 0
    wait_s: float = 0.0
    total_s: float = 0.0
    started_s: float = 0.0
    counted_s: float = 0.0
    """`total_s` at the last step's end."""

    def __post_init__(self) -> None:
        self.counted_s = self.total_s  # that of a part before an interruption

    def over(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The loader's batches, timed; starting its iterator counts as waiting.

        The clock of an interrupted epoch continues.
        """
        before = time.perf_counter()
        self.started_s = before - self.total_s
        batches = iter(loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                now = time.perf_counter()
                self.wait_s += now - before
                self.total_s = now - self.started_s
            yield batch
            before = time.perf_counter()
            self.total_s = before - self.started_s

    def count(self, images: int) -> float:
        """A step on `images` images was started on the device. Returns the seconds since the previous one."""
        self.images += images
        self.stop()
        before, self.counted_s = self.counted_s, self.total_s
        return self.total_s - before

    def stop(self) -> None:
        """The epoch's work is done now, on the device too."""
        self.total_s = time.perf_counter() - self.started_s

    def leave_out(self, seconds: float) -> None:
        """Leave out the given seconds, which were not training, such as saving a checkpoint."""
        self.started_s += seconds

    @property
    def images_per_s(self) -> float:
        """Images per second so far; 0 before the first."""
        return self.images / self.total_s if self.total_s > 0.0 else 0.0

    @property
    def wait_share(self) -> float:
        """The share of the time, 0..1, in which the model had nothing to do."""
        return self.wait_s / self.total_s if self.total_s > 0.0 else 0.0
