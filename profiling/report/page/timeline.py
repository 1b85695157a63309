"""The timeline of a few batches: worker processes, the loader's thread, the training loop."""

from __future__ import annotations

from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import number, round_steps
from fastpipe.profiling.report.page.stages import key
from fastpipe.profiling.report.page.values import duration, rows

_LEFT, _RIGHT, _ROW = 130, 985, 40
_MOST_SPANS = 3000
_SHAPES = {"load": "worker", "transfer": "main", "compute": "model", "wait": "wait"}
_NAMES = {
    "worker": "read, decode, crop",
    "main": "device stage and transfer",
    "model": "model step",
    "wait": "waiting for data",
}


def timeline(report: dict[str, Any]) -> Markup:
    """Draw `report["timeline"]`; ValueError without a span."""
    section = report["timeline"]
    titles = [str(title) for title in section["rows"]]
    spans = [
        span for span in map(_span, rows(section["spans"])) if span is not None and span[0] < len(titles)
    ]
    if not spans:
        raise ValueError("no batch was recorded")
    seconds = number(section.get("seconds")) or max(end for _, _, _, _, end in spans)

    def x(at_s: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(max(at_s / seconds, 0.0), 1.0)

    height = len(titles) * _ROW
    children = _grid(titles, seconds, height, x)
    for row, shape, batch, start_s, end_s in spans[:_MOST_SPANS]:
        children += _drawn(row * _ROW + 6, shape, batch, (start_s, end_s), x)
    drawing = el(
        "svg",
        el("title", "When each process worked on a few batches"),
        *children,
        viewBox=f"0 0 1000 {height + 26}",
        role="img",
    )
    used = dict.fromkeys(shape for _, shape, _, _, _ in spans)
    hint = el("p", "Wider than this screen: scroll sideways.", class_="narrow sub")
    words = key([(shape, _NAMES[shape]) for shape in _NAMES if shape in used])
    return el("div", hint, el("div", drawing, class_="wide"), words)


def _span(span: dict[str, Any]) -> tuple[int, str, int, float, float] | None:
    """(row, shape, batch, start, end); None for a span that is not drawn or is incomplete."""
    shape = _SHAPES.get(str(span.get("kind")))
    found = [number(span.get(name)) for name in ("row", "batch", "start_s", "end_s")]
    if shape is None or any(value is None for value in found):
        return None
    row, batch, start_s, end_s = (float(value) for value in found if value is not None)
    return (int(row), shape, int(batch), start_s, end_s) if row >= 0 and end_s > start_s else None


def _grid(titles: list[str], seconds: float, height: float, x: Any) -> list[Markup]:
    children = []
    for at_s in round_steps(seconds, 6):
        children.append(el("line", x1=x(at_s), x2=x(at_s), y1=0, y2=height, class_="grid"))
        children.append(el("text", duration(at_s), x=x(at_s), y=height + 18, class_="soft mid"))
    for place, title in enumerate(titles):
        children.append(el("text", title, x=_LEFT - 12, y=place * _ROW + 25, class_="soft end"))
    return children


def _drawn(top: float, shape: str, batch: int, at_s: tuple[float, float], x: Any) -> list[Markup]:
    left, width = x(at_s[0]), max(x(at_s[1]) - x(at_s[0]), 0.8)
    title = f"batch {batch}: {_NAMES[shape]}, {duration(at_s[1] - at_s[0])}"
    box = el("rect", el("title", title), x=left, y=top, width=width, height=_ROW - 12, rx=2, class_=shape)
    wide = shape == "model" and width > 24
    label = (
        el("text", batch, x=left + width / 2, y=top + 18, class_="mid", style="fill: var(--card)")
        if wide
        else EMPTY
    )
    return [box, label]
