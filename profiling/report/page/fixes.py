"""The fixes, ranked: predicted rate with its interval, side effect, and what to type."""

from __future__ import annotations

from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import NONE, number, rate
from fastpipe.profiling.report.page.values import rows, spread

_WIDTH, _HEIGHT = 240, 26
# What the terminal's report lists as a fix too.
_WORTHWHILE = 1.02


def fixes(report: dict[str, Any]) -> Markup:
    """A table in the report's own order, which is the ranking; ValueError without a fix."""
    listed = rows(report["fixes"])
    if not listed:
        raise ValueError("no fix was found that helps")
    highest = max((value[2] for row in listed if (value := _predicted(row))), default=1.0)
    head = ("", "fix", "predicted images/s", "", "gain", "accuracy", "do")
    useful = [row for row in listed if not _useless(row)]
    lines = [_row(place, row, highest) for place, row in enumerate(useful, 1)]
    names = el("tr", *(el("th", name) for name in head))
    table = el("table", names, *lines, class_="stacked") if useful else EMPTY
    rest = ", ".join(_first(row, "title", "name", "fix") for row in listed if _useless(row))
    words = el("p", f"No gain above 2 % predicted here: {rest}.", class_="sub") if rest else EMPTY
    return el("div", table, words, class_="wide")


def _useless(row: dict[str, Any]) -> bool:
    gain = number(row.get("gain"))
    return gain is not None and gain < _WORTHWHILE


def _predicted(row: dict[str, Any]) -> tuple[float, float, float] | None:
    for name in ("images_per_s", "predicted_images_per_s", "predicted"):
        found = spread(row.get(name))
        if found is not None:
            return found
    return None


def _row(place: int, row: dict[str, Any], highest: float) -> Markup:
    value, gain = _predicted(row), number(row.get("gain"))
    shown = NONE if value is None else f"{rate(value[0])} ({rate(value[1])} to {rate(value[2])})"
    command = _first(row, "command", "change", "how")
    return el(
        "tr",
        el("td", place, class_="num"),
        el("td", _first(row, "title", "name", "fix"), class_="fix"),
        el("td", shown, data_label="predicted images/s"),
        el("td", EMPTY if value is None else _bar(value, highest), class_="picture"),
        el("td", NONE if gain is None else f"{gain:.2f}x", class_="num", data_label="gain"),
        el("td", _first(row, "side_effect", "accuracy"), data_label="accuracy"),
        el("td", el("code", command) if command else EMPTY, data_label="do"),
    )


def _first(row: dict[str, Any], *names: str) -> str:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), "")


def _bar(value: tuple[float, float, float], highest: float) -> Markup:
    median, low, high = (_WIDTH * min(part / max(highest, 1e-9), 1.0) for part in value)
    middle = _HEIGHT / 2
    return el(
        "svg",
        el("rect", x=0, y=5, width=max(median, 1.0), height=_HEIGHT - 10, rx=3, class_="main"),
        el("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        style="min-width: 90px; max-width: 160px",
    )
