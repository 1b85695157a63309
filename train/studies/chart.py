"""Accuracy against minutes as SVG: Figure 1 of the text from the published points, and that of a record.

One function draws both, so that they can be compared. A line joins the lengths of one recipe by rising cost;
bars are the standard deviations of seeds. Published points are open diamonds, own ones filled circles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from fastpipe.efficiency.published import published_points
from fastpipe.train.studies.design import REFERENCE
from fastpipe.train.studies.record import arm_stem

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 480, 64, 210, 56, 54
# Okabe and Ito's colours, which readers with any colour vision tell apart; on light and on dark.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#a6761d", "#7570b3")
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
  .card { fill: #ffffff; stroke: #d0d7de } .small { fill: #57606a; font-size: 12px }
  .title { font-weight: 600; font-size: 15px } .grid { stroke: #d8dee4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .card { fill: #161b22; stroke: #30363d } .small { fill: #9198a1 }
    .grid { stroke: #30363d }
  }
"""
# The recipes of the figure by their printed names. Rows of the ablations (other alpha, other interval) and
# the point that contradicts Table 6 are not among them.
_FIGURE = {
    "MosaicML Mild": "Mild",
    "MosaicML Medium": "Medium",
    "MosaicML Hot, SAM interval 5": "Hot",
    "MosaicML Hot, MixUp alpha 0.25": "Hot",
    "NVIDIA Hparams Baseline": "NVIDIA Hparams",
    "FFCV (no TTA)": "FFCV",
    "timm a1": "timm a1",
    "timm a2": "timm a2",
    "timm a3": "timm a3",
    "PyTorch Blog": "PyTorch blog",
    "NVIDIA MLPerf submission": "NVIDIA MLPerf",
}
_MACHINE = "MosaicML Cloud"
_TITLES = {"nvidia_hparams": "NVIDIA Hparams", "mild": "Mild", "medium": "Medium", "hot": "Hot"}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """minutes above 0; top1 in percent; spread: the standard deviation of top1, 0 for a single value."""

    minutes: float
    top1: float
    spread: float = 0.0


def figure_1() -> str:
    """The text's figure, of the points that it prints, all on its own machine."""
    series: dict[str, list[Mark]] = {}
    for point in published_points():
        fits = point.source == REFERENCE and point.hardware.startswith(_MACHINE) and not point.bounds
        name = _FIGURE.get(point.recipe)
        if not fits or name is None or point.minutes is None or point.top1 is None:
            continue
        minutes, top1 = point.minutes.value, point.top1.value
        mark = Mark(minutes=minutes, top1=top1) if minutes is not None and top1 is not None else None
        if mark is not None and mark not in series.setdefault(name, []):
            series[name].append(mark)
    return draw(
        {name: marks for name, marks in series.items() if marks},
        title="ResNet-50 on ImageNet, as published",
        note="ResNet Deep Dive, tables and prose; 8x A100 80GB of the MosaicML Cloud",
        published=True,
    )


def study_chart(record: Mapping[str, Any]) -> str:
    """The arms of a record, or "" if no arm has both minutes and accuracy."""
    series: dict[str, list[Mark]] = {}
    for arm in record["arms"]:
        minutes, top1 = arm["found"].get("minutes"), arm["found"].get("top1")
        if minutes and top1 and minutes["mean"] > 0.0:
            mark = Mark(minutes=minutes["mean"], top1=top1["mean"], spread=top1["standard_deviation"] or 0.0)
            series.setdefault(_series_of(arm), []).append(mark)
    if not series:
        return ""
    counts = {found["n"] for arm in record["arms"] for found in arm["found"].values()}
    return draw(
        series,
        title=f"{record['citation']} at scale {record['scale']}: {record['title']}",
        note=f"data {record['data']['name']}, {max(counts)} seeds, bars: standard deviation",
    )


def _series_of(arm: Mapping[str, Any]) -> str:
    """Lengths of one arm belong together: the name without its last part, the text's epochs."""
    name = arm_stem(arm)
    return _TITLES.get(name, name)


def draw(series: Mapping[str, Sequence[Mark]], *, title: str, note: str, published: bool = False) -> str:
    """SVG of series of marks, minutes on a logarithmic axis."""
    marks = [mark for of in series.values() for mark in of]
    axes = _Axes.around(marks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="8"/>',
        f'<text class="title" x="20" y="26">{escape(title)}</text>',
        f'<text class="small" x="20" y="44">{escape(note)}</text>',
        *axes.lines(),
    ]
    for number, (name, of) in enumerate(series.items()):
        parts += _series(name, of, axes, _COLOURS[number % len(_COLOURS)], number, published)
    return "\n".join([*parts, "</svg>\n"])


@dataclass(frozen=True, kw_only=True)
class _Axes:
    """From values to pixels; minutes by their logarithm."""

    first: float
    last: float
    low: float
    high: float

    @classmethod
    def around(cls, marks: Sequence[Mark]) -> _Axes:
        ends = [mark.top1 - mark.spread for mark in marks] + [mark.top1 + mark.spread for mark in marks]
        margin = max(0.25, 0.06 * (max(ends) - min(ends)))
        return cls(
            first=min(mark.minutes for mark in marks) / 1.25,
            last=max(mark.minutes for mark in marks) * 1.25,
            low=min(ends) - margin,
            high=max(ends) + margin,
        )

    def x(self, minutes: float) -> float:
        share = math.log(minutes / self.first) / math.log(self.last / self.first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, top1: float) -> float:
        return _HEIGHT - _BOTTOM - (top1 - self.low) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)

    def lines(self) -> Iterator[str]:
        """Grid, ticks and names of the axes."""
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        for value in _round_values(self.low, self.high):
            y = self.y(value)
            yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            yield f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in _decades(self.first, self.last):
            x = self.x(value)
            yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            yield f'<text class="small" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>'
        yield (
            f'<text class="small" x="{(_LEFT + right) / 2:.0f}" y="{_HEIGHT - 14}" text-anchor="middle">'
            "minutes to train</text>"
        )
        yield (
            f'<text class="small" transform="translate(18 {(_TOP + bottom) / 2:.0f}) rotate(-90)" '
            'text-anchor="middle">top-1 (%)</text>'
        )


def _round_values(low: float, high: float) -> list[float]:
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [round(step * at, 10) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(first: float, last: float) -> list[float]:
    powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    found = [10.0**power * factor for power in powers for factor in (1, 2, 5)]
    return [value for value in found if first <= value <= last]


def _series(
    name: str, marks: Sequence[Mark], axes: _Axes, colour: str, number: int, published: bool
) -> Iterator[str]:
    ordered = sorted(marks, key=lambda mark: mark.minutes)
    places = [(axes.x(mark.minutes), axes.y(mark.top1)) for mark in ordered]
    if len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for mark, (x, y) in zip(ordered, places, strict=True):
        if mark.spread:
            low, high = axes.y(mark.top1 - mark.spread), axes.y(mark.top1 + mark.spread)
            yield f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}"/>'
        yield _mark(x, y, colour, published, f"{name}: {mark.top1:.2f} % in {mark.minutes:.4g} min")
    y = _TOP + 10 + 22 * number
    yield _mark(_WIDTH - _RIGHT + 24, y, colour, published, name)
    yield f'<text x="{_WIDTH - _RIGHT + 38}" y="{y + 4}">{escape(name)}</text>'


def _mark(x: float, y: float, colour: str, published: bool, words: str) -> str:
    shape = (
        f'<path d="M{x:.1f} {y - 6:.1f} l6 6 l-6 6 l-6 -6 z" fill="none" stroke="{colour}" stroke-width="2">'
        if published
        else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}">'
    )
    return f"{shape}<title>{escape(words)}</title></{'path' if published else 'circle'}>"
