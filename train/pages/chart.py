"""Curves as inline SVG: a few lines over one axis, with round ticks; a missing value is a gap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import round_steps

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 56, 484, 10, 200, 238
_MOST = 400
"""Points of a line; more are averaged, since the drawing is 428 units wide."""
_SPOTS = 60
"""Up to so many points have a spot with their value."""

Point = tuple[float, float | None]
"""Where, and the value; None is a gap."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve. shape: the class of its colour: worker, main, model, or wait for a thin grey one."""

    name: str
    points: Sequence[Point]
    shape: str = "worker"


def chart(
    title: str, lines: Sequence[Line], *, across: str = "epoch", form: str = ".3g", from_zero: bool = True
) -> Markup:
    """The figure of the lines that have a value; nothing if none has. `form` is the format of the values."""
    lines = [line for line in lines if any(value is not None for _, value in line.points)]
    if not lines:
        return EMPTY
    last = max(at for line in lines for at, _ in line.points)
    values = [value for line in lines for _, value in line.points if value is not None]
    ticks = _ticks(0.0 if from_zero and min(values) >= 0 else min(values), max(values), parts=5)
    frame = _Frame(last=last or 1.0, low=ticks[0], high=ticks[-1])
    drawn = [mark for line in lines for mark in _line(line, frame, form)]
    picture = el(
        "svg",
        el("title", f"{title} by {across}"),
        *_axes(frame, ticks, across),
        *drawn,
        viewBox=f"0 0 500 {_HEIGHT}",
        role="img",
    )
    key = el("p", *(el("span", el("i", class_=line.shape), line.name) for line in lines), class_="key")
    return el("figure", el("figcaption", title), picture, key if len(lines) > 1 else EMPTY)


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """From values to places in the drawing; across it begins at 0."""

    last: float
    low: float
    high: float

    def x(self, at: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * at / self.last

    def y(self, value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - self.low) / (self.high - self.low)


def _ticks(low: float, high: float, *, parts: int) -> list[float]:
    """Round values, the first at most `low` and the last at least `high`."""
    span = high - low or abs(high) or 1.0
    stride = round_steps(span, parts)[1]
    begin, end = math.floor(low / stride + 1e-9), math.ceil(high / stride - 1e-9)
    return [stride * place for place in range(begin, max(end, begin + 1) + 1)]


def _axes(frame: _Frame, ticks: Sequence[float], across: str) -> Iterator[Markup]:
    for value in ticks:
        yield el("line", x1=_LEFT, x2=_RIGHT, y1=frame.y(value), y2=frame.y(value), class_="grid")
        yield el("text", f"{value:.4g}", x=_LEFT - 8, y=frame.y(value) + 4, class_="soft end")
    for at in round_steps(frame.last, 8):
        if at == int(at):
            yield el("text", f"{at:.0f}", x=frame.x(at), y=_BOTTOM + 17, class_="soft mid")
    yield el("text", across, x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 34, class_="soft mid")


def _line(line: Line, frame: _Frame, form: str) -> Iterator[Markup]:
    points = thinned(line.points)
    for part in _unbroken(points):
        path = "L".join(f"{frame.x(at):.1f} {frame.y(value):.1f}" for at, value in part)
        yield el("path", d=f"M{path}", class_=f"line {line.shape}")
    if len(points) > _SPOTS or line.shape == "wait":
        return
    for at, value in points:
        if value is not None:
            words = el("title", f"{line.name}, {at:g}: {value:{form}}")
            yield el("circle", words, cx=frame.x(at), cy=frame.y(value), r=3, class_=f"spot {line.shape}")


def _unbroken(points: Sequence[Point]) -> Iterator[list[tuple[float, float]]]:
    part: list[tuple[float, float]] = []
    for at, value in (*points, (0.0, None)):
        if value is not None:
            part.append((at, value))
        elif part:
            yield part
            part = []


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """At most 400 points, each the mean of as many neighbours; a gap where all of these are missing."""
    if len(points) <= _MOST:
        return points
    size = -(-len(points) // _MOST)
    return [_mean(points[start : start + size]) for start in range(0, len(points), size)]


def _mean(points: Sequence[Point]) -> Point:
    values = [value for _, value in points if value is not None]
    at = sum(place for place, _ in points) / len(points)
    return at, sum(values) / len(values) if values else None
