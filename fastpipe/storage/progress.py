"""A progress bar that appears only if the work takes longer than two seconds."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` during indexing, reading or building."""

_log = logging.getLogger("fastpipe.storage")


@contextlib.contextmanager
def reporting(label: str, progress: Progress | None = None, *, delay_s: float = 2.0) -> Iterator[Progress]:
    """Yield `progress` itself if given, else a bar on stderr that appears after `delay_s` seconds.

    If stderr is not a terminal, the bar is one INFO line of the logger `fastpipe.storage`.
    """
    if progress is not None:
        yield progress
        return
    bar = _LateBar(label, delay_s)
    try:
        yield bar
    finally:
        bar.close()


class _LateBar:
    def __init__(self, label: str, delay_s: float) -> None:
        self._label = label
        self._start_s = time.monotonic()
        self._delay_s = delay_s
        self._bar: Any = None
        self._task: Any = None
        self._announced = False

    def __call__(self, done: int, total: int) -> None:
        if not self._announced:
            if time.monotonic() - self._start_s < self._delay_s:
                return
            self._announced = True
            self._announce(done, total)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def _announce(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            elapsed_s = time.monotonic() - self._start_s
            _log.info("%s: %d of %d after %.1f s", self._label, done, total, elapsed_s)
            return
        # rich is imported here: a bar is rare, and rich would add 30 ms to every `import fastpipe`.
        from rich.console import Console
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._label, total=total, completed=done)
        self._bar.start()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
