"""The scaling curve: the loader's rate at some worker counts, the fit and its interval, and the demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpipe.page.markup import Markup, el
from fastpipe.page.numbers import number, rate, round_steps
from fastpipe.profiling.report.page.narrow import Bar, both
from fastpipe.profiling.report.page.stages import key
from fastpipe.profiling.report.page.values import Spread, rows, spread

_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 980, 12, 300

Points = list[tuple[float, Spread]]
Scale = Callable[[float], float]


def scaling(report: dict[str, Any]) -> Markup:
    """Draw `report["scaling"]`: points measured, curve fitted; ValueError without a point."""
    section = report["scaling"]
    points = _points(section.get("points"))
    fit = section.get("fit") if isinstance(section.get("fit"), dict) else {}
    curve = _points(fit.get("curve"))
    if not points:
        raise ValueError("no worker count was measured")
    demand = number(section.get("demand_images_per_s"))
    most = max(workers for workers, _ in (*points, *curve))
    top = 1.08 * max(value[2] for _, value in (*points, *curve))
    shows_demand = demand is not None and demand <= 2 * top
    top = max(top, 1.08 * demand) if shows_demand and demand is not None else top

    def x(workers: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * workers / max(most, 1.0)

    def y(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * value / top

    children = [*_axes(x, y, most, top), *_curve(curve, x, y)]
    if shows_demand and demand is not None:
        children.append(el("line", x1=_LEFT, x2=_RIGHT, y1=y(demand), y2=y(demand), class_="limit"))
    children += [mark for point in points for mark in _point(point, x, y)]
    drawing = el(
        "svg", el("title", "Rate of the loader by workers"), *children, viewBox="0 0 1000 345", role="img"
    )
    bars = [
        Bar(
            name=f"{workers:g} worker{'s' * (workers != 1)}",
            figure=f"{rate(value[0])} images/s ({rate(value[1])} to {rate(value[2])})",
            end=value[0] / top,
            shape="worker",
        )
        for workers, value in points
    ]
    return el("div", both(drawing, bars), _words(fit, demand, shows_demand))


def _points(value: Any) -> Points:
    found = [(number(row.get("workers")), spread(row.get("images_per_s"))) for row in rows(value)]
    return sorted((at, value) for at, value in found if at is not None and value is not None)


def _axes(x: Scale, y: Scale, most: float, top: float) -> list[Markup]:
    children = []
    for value in round_steps(top, 6):
        children.append(el("line", x1=_LEFT, x2=_RIGHT, y1=y(value), y2=y(value), class_="grid"))
        children.append(el("text", rate(value), x=_LEFT - 10, y=y(value) + 4, class_="soft end"))
    children += [
        el("text", f"{workers:.0f}", x=x(workers), y=_BOTTOM + 18, class_="soft mid")
        for workers in round_steps(most, 8)
        if workers == int(workers)
    ]
    children.append(el("text", "workers", x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 36, class_="soft mid"))
    children.append(el("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM, class_="axis"))
    return children


def _curve(curve: Points, x: Scale, y: Scale) -> list[Markup]:
    if len(curve) < 2:
        return []
    upper = [(x(at), y(high)) for at, (_, _, high) in curve]
    lower = [(x(at), y(max(low, 0.0))) for at, (_, low, _) in reversed(curve)]
    middle = [(x(at), y(median)) for at, (median, _, _) in curve]
    return [
        el("path", d=f"M{_path([*upper, *lower])}Z", class_="band"),
        el("path", d=f"M{_path(middle)}", class_="curve"),
    ]


def _path(places: list[tuple[float, float]]) -> str:
    return "L".join(f"{across:.1f} {down:.1f}" for across, down in places)


def _point(point: tuple[float, Spread], x: Scale, y: Scale) -> list[Markup]:
    workers, (median, low, high) = point
    title = f"{workers:g} workers: {rate(median)} images/s ({rate(low)} to {rate(high)})"
    return [
        el("line", x1=x(workers), x2=x(workers), y1=y(low), y2=y(high), class_="whisker"),
        el("circle", el("title", title), cx=x(workers), cy=y(median), r=5, class_="dot"),
    ]


def _words(fit: dict[str, Any], demand: float | None, shown: bool) -> Markup:
    name = fit.get("name") or fit.get("model")
    entries = [("worker", f"fit{f' ({name})' if name else ''} with its interval; circles were measured")]
    if demand is not None:
        beyond = "" if shown else ", beyond this scale"
        entries.append(("model", f"demand: {rate(demand)} images/s{beyond}"))
    return key(entries)
