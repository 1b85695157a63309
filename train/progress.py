"""What a run shows while it works: a bar on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Display"]


class Display:
    """Shows epoch, loss, images/s and the share of time spent waiting for data. quiet: the last line only."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(highlight=False)
        self.quiet = quiet
        self._bar: Progress | None = None
        self._task: Any = None

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
        """A line that a quiet run prints, too: how it ended."""
        self.console.print(text, markup=False, soft_wrap=True)

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin a bar of `steps`, where there is a terminal to draw it on."""
        if self.quiet or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(f"epoch {epoch + 1}/{epochs}", total=steps, status="")

    def step(self, *, loss: float | None, images_per_s: float, wait_share: float, resolution: int) -> None:
        """Advance the bar by one step; `loss` is the newest one known."""
        if self._bar is None:
            return
        known = "" if loss is None else f"loss {loss:.3f}  "
        status = f"{known}{images_per_s:.0f} images/s  data wait {wait_share:.0%}  {resolution} px"
        self._bar.update(self._task, advance=1, status=status)

    def end_epoch(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
