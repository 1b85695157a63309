"""The bars of a chart on a screen that is too narrow for the drawing: text that wraps, with a bar below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastpipe.page.markup import Markup, el


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row: where the bar begins and ends, as shares of the width, and what its colour means."""

    name: object
    figure: str
    start: float = 0.0
    end: float = 0.0
    shape: str = "wait"
    alarm: bool = False


def both(drawing: Markup, bars: Sequence[Bar]) -> Markup:
    """The drawing, and the bars that replace it on a narrow screen; the style sheet shows one of the two."""
    rows = [_row(bar) for bar in bars]
    return el("div", el("div", drawing, class_="broad"), el("ul", *rows, class_="narrow bars"))


def _row(bar: Bar) -> Markup:
    start, end = (min(max(share, 0.0), 1.0) for share in (bar.start, bar.end))
    place = f"margin-left: {100 * start:.1f}%; width: {100 * max(end - start, 0.01):.1f}%"
    figure = el("b", bar.figure, class_="alarm" if bar.alarm else None)
    return el("li", el("span", bar.name), figure, el("i", style=place, class_=bar.shape))
