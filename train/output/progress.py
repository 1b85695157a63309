"""The progress of a run: a bar on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from fastpipe.system.output import printable

_BAR = (8, 40)  # columns of a terminal, at least and at most


def clock_text(seconds: float | None) -> str:
    """H:MM:SS."""
    if seconds is None:
        return "-:--:--"
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich's own version ends the program with status 1, whatever it is doing."""
        raise BrokenPipeError


class Display:
    """Shows epoch, loss, images/s and the share of time spent waiting for data. quiet: the last line only.

    closed: nobody reads the output any more (`| head`), so nothing more is shown.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or _Console(highlight=False)
        self.quiet = quiet
        self.closed = False
        self._bar: Progress | None = None
        self._task: Any = None
        self._now = now
        self._begun: float | None = None
        self._epoch_s: float | None = None  # of the last whole epoch, its validation included
        self._epochs_left = 0
        self._steps, self._done, self._done_before = 1, 0, 0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_epoch()

    def line(self, text: str) -> None:
        """One line of text, unwrapped and without markup."""
        if not self.quiet:
            self.last(text)

    def last(self, text: str) -> None:
        """A line that even a quiet run prints: how it ended."""
        if self.closed:
            return
        try:
            self.console.print(printable(text), markup=False, soft_wrap=True)
        except BrokenPipeError:
            self.closed = True

    def start_epoch(
        self, epoch: int, epochs: int, steps: int, *, done: int = 0, last_epoch: int | None = None
    ) -> None:
        """Begin a bar of `steps`, with `done` of them finished, if there is a terminal.

        The run ends with `last_epoch` (default: `epochs`).
        """
        now = self._now()
        if self._begun is not None and not self._done_before:
            self._epoch_s = now - self._begun
        self._begun, self._epochs_left = now, (last_epoch or epochs) - epoch - 1
        self._steps, self._done, self._done_before = steps, done, done
        if self.quiet or not self.console.is_terminal:
            return
        text = Column(no_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}", table_column=text),
            BarColumn(bar_width=_BAR[0]),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", table_column=Column(no_wrap=True)),
            console=self.console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(f"epoch {epoch + 1}/{epochs}", total=steps, completed=done, status="")

    def step(self, *, loss: float | None, images_per_s: float, wait_share: float, resolution: int) -> None:
        """Advance the bar by one step; `loss` is the newest one known."""
        self._done += 1
        if self._bar is None:
            return
        facts = [f"{images_per_s:.0f} images/s", f"data wait {wait_share:.0%}", f"{resolution} px"]
        if loss is not None:
            facts.insert(0, f"loss {loss:.3f}")
        epoch_s, run_s = self._left()
        whole, short = f"{clock_text(epoch_s)} left, run {clock_text(run_s)}", f"run {clock_text(run_s)}"
        task = self._bar.tasks[0]
        # The width that the other columns leave, each with a blank before it.
        room = self.console.width - len(task.description) - 2 * len(str(self._steps)) - 1 - 3
        status = "  ".join(_fitting([whole, short], facts, room - _BAR[0]))
        bar: Any = self._bar.columns[1]
        bar.bar_width = max(_BAR[0], min(_BAR[1], room - len(status)))
        self._bar.update(self._task, advance=1, status=status)

    def _left(self) -> tuple[float | None, float | None]:
        """Seconds to the end of the epoch's steps, and to the end of the run."""
        done = self._done - self._done_before
        if self._begun is None or not done:
            return None, None
        one = (self._now() - self._begun) / done
        steps_s = one * max(0, self._steps - self._done)
        # Later epochs take as long as the last whole one; in the first, validation is not known yet.
        return steps_s, steps_s + self._epochs_left * (self._epoch_s or one * self._steps)

    def run_left(self) -> str:
        """After an epoch: the time to the end of the run, estimated from this epoch; "" at the end."""
        if self._begun is None or not self._epochs_left:
            return ""
        share = (self._steps - self._done_before) / self._steps
        whole_s = (self._now() - self._begun) / share if share else self._epoch_s
        return "" if whole_s is None else f"  left {clock_text(whole_s * self._epochs_left)}"

    def end_epoch(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _fitting(times: list[str], facts: list[str], room: int) -> Iterator[str]:
    """The longest form of the times that fits into `room` columns, then as many facts as fit after it."""
    for text in times:
        if len(text) <= room:
            yield text
            room -= len(text)
            break
    for fact in facts:
        if len(fact) + 2 > room:
            return
        yield fact
        room -= len(fact) + 2
