"""What each part adds to an epoch, how a busy CPU slows the model, and how long the training waits."""

from __future__ import annotations

from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import NONE, number, rate
from fastpipe.profiling.report.page.narrow import Bar, both
from fastpipe.profiling.report.page.values import Spread, rows, spread

_WIDTH, _NAMES, _FIGURES, _ROW = 1000, 240, 190, 30


def stalls(report: dict[str, Any]) -> Markup:
    """Seconds that each run of `report["differential"]` adds to an epoch; ValueError without one."""
    section = report["differential"]
    found = [(row, value) for row in rows(section.get("stalls")) if (value := spread(row.get("seconds")))]
    if not found:
        raise ValueError("no run was compared with another")
    least = min(0.0, *(low for _, (_, low, _) in found))
    most = max(1e-9, *(high for _, (_, _, high) in found))
    scale = (_WIDTH - _NAMES - _FIGURES) / (most - least)

    def x(seconds: float) -> float:
        return _NAMES + (seconds - least) * scale

    children = [el("line", x1=x(0), x2=x(0), y1=0, y2=len(found) * _ROW, class_="axis")]
    for place, (row, value) in enumerate(found):
        children += _stall(place * _ROW + 4, row, value, x)
    drawing = _svg(len(found) * _ROW + 6, "Seconds that each part adds to an epoch", children)
    bars = [_narrow_stall(row, value, least, most) for row, value in found]
    images = number(section.get("epoch_images"))
    epoch = EMPTY if images is None else el("p", f"An epoch has {images:,.0f} images.", class_="sub")
    return el("div", both(drawing, bars), epoch)


def _adds(row: dict[str, Any], seconds: float) -> str:
    """In the terminal's words."""
    share = number(row.get("share"))
    return f"{seconds:+,.2f} s" + ("" if share is None else f", {share:+.1%}")


def _narrow_stall(row: dict[str, Any], value: Spread, least: float, most: float) -> Bar:
    median, low, high = value
    ends = sorted((edge - least) / (most - least) for edge in (0.0, median))
    figure = f"{_adds(row, median)} ({low:+,.2f} to {high:+,.2f})"
    shape = "model" if median > 0 else "main"
    return Bar(name=row.get("name"), figure=figure, start=ends[0], end=ends[1], shape=shape)


def _stall(top: float, row: dict[str, Any], value: tuple[float, float, float], x: Any) -> list[Markup]:
    median, low, high = value
    shown = _adds(row, median)
    left, right = min(x(0), x(median)), max(x(0), x(median))
    shape = "model" if median > 0 else "main"
    return [
        el("text", row.get("name"), x=_NAMES - 12, y=top + 15, class_="end"),
        el("rect", x=left, y=top, width=max(right - left, 2.0), height=20, rx=3, class_=shape),
        el("line", x1=x(low), x2=x(high), y1=top + 10, y2=top + 10, class_="whisker"),
        el("text", shown, x=max(x(high), right) + 10, y=top + 15),
    ]


def interference(report: dict[str, Any]) -> Markup:
    """The model step's rate while decoding takes a share of the CPUs; ValueError without a point."""
    section = report["interference"]
    found = [
        (load, value)
        for row in rows(section.get("points"))
        if (load := number(row.get("load"))) is not None and (value := spread(row.get("images_per_s")))
    ]
    if not found:
        raise ValueError("the model step was not timed next to a loader")
    knee = number(section.get("knee"))
    scale = (_WIDTH - _NAMES - _FIGURES) / max(high for _, (_, _, high) in found)
    children: list[Markup] = []
    bars: list[Bar] = []
    for place, (load, (median, low, high)) in enumerate(found):
        top, marked = place * _ROW + 4, knee is not None and load >= knee
        ends = _NAMES + low * scale, _NAMES + high * scale
        share = median * scale / (_WIDTH - _NAMES - _FIGURES)
        bars.append(
            Bar(
                name=f"loader at {load:.0%}",
                figure=f"{median:,.1f} images/s",
                end=share,
                shape="model",
                alarm=marked,
            )
        )
        children += [
            el("text", f"loader at {load:.0%}", x=_NAMES - 12, y=top + 15, class_="end"),
            el("rect", x=_NAMES, y=top, width=max(median * scale, 2.0), height=20, rx=3, class_="model"),
            el("line", x1=ends[0], x2=ends[1], y1=top + 10, y2=top + 10, class_="whisker"),
            el(
                "text",
                f"{median:,.1f} images/s",
                x=ends[1] + 10,
                y=top + 15,
                class_="alarm" if marked else None,
            ),
        ]
    words = (
        "No share made the step 10 % slower."
        if knee is None
        else f"Red: from {knee:.0%} on a step takes 10 % longer."
    )
    drawing = _svg(len(found) * _ROW + 6, "Rate of the model step next to a busy loader", children)
    return el("div", both(drawing, bars), el("p", words, class_="sub"))


def _svg(height: float, title: str, children: list[Markup]) -> Markup:
    return el("svg", el("title", title), *children, viewBox=f"0 0 {_WIDTH} {height:.0f}", role="img")


def waits(report: dict[str, Any]) -> Markup:
    """First batch, gap between epochs, and the waits for a batch; ValueError when none was measured."""
    section = report["latency"]
    names = (
        ("first_batch_ms", "first batch after", ",.0f"),
        ("epoch_gap_ms", "gap between epochs", ",.0f"),
        ("wait_p50_ms", "wait for a batch, median", ",.1f"),
        ("wait_p99_ms", "wait for a batch, 99 of 100", ",.1f"),
    )
    shown = [(label, form, number(section.get(key))) for key, label, form in names]
    tiles = [_tile(f"{value:{form}} ms", label) for label, form, value in shown if value is not None]
    held = number(section.get("worker_bytes"))
    if held:
        tiles.append(_tile(f"{held / 1e6:,.0f} MB", "held by the worker processes"))
    if not tiles:
        raise ValueError("no wait was measured")
    return el("div", *tiles, class_="tiles")


def _tile(value: str, label: str) -> Markup:
    return el("div", el("b", value), el("span", label), class_="tile")


def checks(report: dict[str, Any]) -> Markup:
    """The fixes that were applied and measured, with their predictions; ValueError without one."""
    listed = rows(report["verified"])
    if not listed:
        raise ValueError("no fix was applied; --verify applies them")
    head = ("fix", "predicted images/s", "measured", "error", "inside its interval")
    lines = [_check(row) for row in listed]
    names = el("tr", *(el("th", name) for name in head))
    return el("div", el("table", names, *lines, class_="stacked"), class_="wide")


def _check(row: dict[str, Any]) -> Markup:
    predicted, low, high, measured, error = (
        number(row.get(name)) for name in ("predicted", "low", "high", "measured", "error")
    )
    return el(
        "tr",
        el("td", row.get("fix"), class_="fix"),
        el("td", f"{rate(predicted)} ({rate(low)} to {rate(high)})", data_label="predicted images/s"),
        el("td", rate(measured), data_label="measured"),
        el("td", NONE if error is None else f"{error:+.0%}", data_label="error"),
        el(
            "td",
            {True: "yes", False: "no"}.get(bool(row["inside"])) if "inside" in row else NONE,
            data_label="inside",
        ),
    )


def what_if(report: dict[str, Any]) -> Markup:
    """The answer to --what-if, and its assumptions."""
    section = report["what_if"]
    assumed = [el("li", text) for text in section.get("assumptions") or []]
    return el("div", el("p", section["sentence"], class_="lead"), el("ul", *assumed) if assumed else EMPTY)
