"""The stages: a waterfall of what an image costs, and the rates side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import NONE, number, rate
from fastpipe.profiling.report.page.narrow import Bar, both
from fastpipe.profiling.report.page.values import interval, rows, spread

# Width of the drawing, of the names before it and of the figures behind it, in its own pixels.
_WIDTH, _NAMES, _FIGURES, _ROW = 1000, 170, 190, 30
LANES = {"worker": "worker processes", "main": "loader thread and device", "model": "model step"}


def waterfall(report: dict[str, Any]) -> Markup:
    """CPU-ms of each loader stage; each bar begins at the end of the previous one. ValueError without any."""
    stages = [(row, spread(row.get("cpu_ms_per_image"))) for row in rows(report.get("stages"))]
    costs = [(row, cost[0]) for row, cost in stages if cost is not None and row.get("lane") != "model"]
    total = sum(cost for _, cost in costs)
    if total <= 0.0:
        raise ValueError("no loader stage has a CPU time")
    scale = (_WIDTH - _NAMES - _FIGURES) / total
    children: list[Markup] = []
    bars: list[Bar] = []
    done = 0.0
    for place, (row, cost) in enumerate(costs):
        ends = done / total, (done + cost) / total
        bars.append(
            Bar(name=row.get("name"), figure=f"{cost:.3g} ms", start=ends[0], end=ends[1], shape=_shape(row))
        )
        left, top = _NAMES + done * scale, place * _ROW + 4
        children += [
            el("text", row.get("name"), x=_NAMES - 12, y=top + 15, class_="end"),
            _bar(left, top, cost * scale, row, f"{row.get('name')}: {cost:.3g} CPU-ms per image"),
            el("text", f"{cost:.3g} ms", x=left + max(cost * scale, 2.0) + 8, y=top + 15),
        ]
        done += cost
        if place + 1 < len(costs):
            x = _NAMES + done * scale
            children.append(el("line", x1=x, x2=x, y1=top + 20, y2=top + _ROW, class_="link"))
    bottom = len(costs) * _ROW + 22
    children.append(el("text", f"together {total:.3g} CPU-ms per image", x=_NAMES, y=bottom, class_="soft"))
    drawing = _svg(bottom + 10, "CPU time per image of each loader stage", children)
    bars.append(Bar(name="together", figure=f"{total:.3g} ms", end=1.0))
    return el("div", both(drawing, bars), key(_lanes(costs)), _model_note(stages))


def _lanes(costs: list[tuple[dict[str, Any], float]]) -> list[tuple[str, str]]:
    found = dict.fromkeys(str(row.get("lane")) for row, _ in costs)
    return [(lane, LANES[lane]) for lane in found if lane in LANES]


def _model_note(stages: list[tuple[dict[str, Any], tuple[float, float, float] | None]]) -> Markup:
    found = [cost[0] for row, cost in stages if cost is not None and row.get("lane") == "model"]
    if not found:
        return EMPTY
    return el("p", f"In addition, the model step takes {found[0]:.3g} CPU-ms per image.", class_="sub")


def rates(report: dict[str, Any]) -> Markup:
    """Images/s of every stage on a logarithmic scale, with intervals; ValueError without any."""
    listed = [*rows(report.get("stages")), *rows(report.get("together"))]
    found = [(row, value) for row in listed if (value := interval(row)) and value[1] > 0]
    if not found:
        raise ValueError("no stage has a rate")
    first = math.floor(math.log10(min(low for _, (_, low, _) in found)))
    last = max(first + 1, math.ceil(math.log10(max(high for _, (_, _, high) in found))))
    unit = (_WIDTH - _NAMES - _FIGURES) / (last - first)

    def at(value: float) -> float:
        return _NAMES + (math.log10(value) - first) * unit

    height = len(found) * _ROW + 4
    children = []
    for power in range(first, last + 1):
        x = at(10.0**power)
        children.append(el("line", x1=x, x2=x, y1=0, y2=height, class_="grid"))
        children.append(el("text", rate(10.0**power), x=x, y=height + 16, class_="soft mid"))
    # Loaders measured for comparison, and several stages together, are not stages of the path.
    path = [median for row, (median, _, _) in found if row.get("lane") in LANES]
    slowest = min(path, default=None)
    bars = []
    for place, (row, value) in enumerate(found):
        marked = row.get("lane") in LANES and value[0] == slowest
        children += _rate_row(place * _ROW + 4, row, value, at, marked)
        end = (math.log10(max(value[0], 10.0**first)) - first) / (last - first)
        figure = f"{rate(value[0])} images/s ({rate(value[1])} to {rate(value[2])})"
        bars.append(Bar(name=row.get("name"), figure=figure, end=end, shape=_shape(row), alarm=marked))
    drawing = _svg(height + 24, "Images per second of each stage", children)
    lanes = [(row, 0.0) for row, _ in found]
    words = key([*_lanes(lanes), ("wait", "several stages together, or another loader")])
    return el("div", both(drawing, bars), words)


def _rate_row(
    top: float, row: dict[str, Any], value: tuple[float, float, float], at: Any, slowest: bool
) -> list[Markup]:
    median, low, high = value
    shown = f"{rate(median)} images/s"
    title = f"{row.get('name')}: {shown}, {rate(low)} to {rate(high)}"
    middle = top + 10
    return [
        el("text", row.get("name"), x=_NAMES - 12, y=top + 15, class_="end"),
        _bar(_NAMES, top, at(median) - _NAMES, row, title),
        el("line", x1=at(low), x2=at(high), y1=middle, y2=middle, class_="whisker"),
        *(
            el("line", x1=at(x), x2=at(x), y1=middle - 4, y2=middle + 4, class_="whisker")
            for x in (low, high)
        ),
        el("text", shown, x=max(at(high), at(median)) + 10, y=top + 15, class_="alarm" if slowest else None),
    ]


def _bar(left: float, top: float, width: float, row: dict[str, Any], title: str) -> Markup:
    width = max(width, 2.0)
    return el("rect", el("title", title), x=left, y=top, width=width, height=20, rx=3, class_=_shape(row))


def _shape(row: dict[str, Any]) -> str:
    """The colour of its lane."""
    lane = row.get("lane")
    return str(lane) if lane in LANES else "wait"


def _svg(height: float, title: str, children: list[Markup]) -> Markup:
    return el("svg", el("title", title), *children, viewBox=f"0 0 {_WIDTH} {height:.0f}", role="img")


def key(entries: list[tuple[str, str]]) -> Markup:
    """What the colours mean."""
    return el("p", *(el("span", el("i", class_=name), text) for name, text in entries), class_="key")


def stage_table(report: dict[str, Any]) -> Markup:
    """All figures of all stages; ValueError without any."""
    listed = [row for name in ("stages", "details", "together") for row in rows(report.get(name))]
    if not listed:
        raise ValueError("no stage was timed")
    names = [el("th", name, class_="num" if name in _HEAD[1:5] else None) for name in _HEAD]
    missing = [_missing_row(row) for row in rows(report.get("not_measured"))]
    table = el("table", el("tr", *names), *map(_table_row, listed), *missing, class_="stacked")
    return el("div", table, class_="wide")


_HEAD = ("stage", "images/s", "95 % interval", "CPU-ms/image", "n", "what")


def _cells(name: object, figures: Sequence[str], what: object) -> Markup:
    """A row. A narrow screen shows no table head, so each cell has its own label."""
    cells = [
        el("td", text, class_="num", data_label=head) for head, text in zip(_HEAD[1:5], figures, strict=True)
    ]
    return el("tr", el("td", name, class_="fix"), *cells, el("td", what))


def _missing_row(row: dict[str, Any]) -> Markup:
    return _cells(row.get("name"), [NONE] * 4, f"not measured: {row.get('why')}")


def _table_row(row: dict[str, Any]) -> Markup:
    speed, cost, repeats = (
        interval(row),
        spread(row.get("cpu_ms_per_image")),
        number(row.get("repeats")),
    )
    shown = (
        NONE if speed is None else rate(speed[0]),
        NONE if speed is None else f"{rate(speed[1])} to {rate(speed[2])}",
        NONE if cost is None else f"{cost[0]:.3g}",
        NONE if repeats is None else f"{repeats:.0f}",
    )
    return _cells(row.get("name"), shown, row.get("what", ""))
