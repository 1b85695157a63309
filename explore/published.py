"""The published points as runs of the page, with the curves of those that have one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Literal

from fastpipe.efficiency.durations import extrapolation_error, time_to_train
from fastpipe.efficiency.published import Figure, Point, curve_rows, published_points
from fastpipe.explore.families import family_of
from fastpipe.explore.run import IMAGENET, Curve, Minutes, Run

_RUN = re.compile(r"run (\d+)\b")
# What MosaicML's logs call the two systems of the v2.0 submission.
_SYSTEMS = {"mild": "methods", "mosaicml_mlperf_baseline": "baseline"}
_FROM_FIRST = 10
_PLAIN = re.compile(r"[\d.]+")
_SIGNS = {"printed as upper bounds": "<=", "printed as lower bounds": ">="}


def shipped_runs() -> Iterator[Run]:
    """The points that the package ships."""
    return runs_of(published_points(), "published", "published")


def runs_of(points: Iterable[Point], kind: Literal["published", "own"], prefix: str) -> Iterator[Run]:
    """One run for each point; `prefix` begins their ids."""
    for point in points:
        yield _run(point, kind, f"{prefix}:{point.line}")


def _run(point: Point, kind: Literal["published", "own"], identity: str) -> Run:
    family = family_of(point.recipe, point.source)
    number = _RUN.match(point.notes)
    # Rows that are seeds of one another say "run N"; all others stand alone.
    group = f"{point.source}|{point.recipe}|{point.epochs}|{point.hardware}" if number else identity
    log = (_SYSTEMS.get(family.name, ""), number[1]) if number and "v2.0" in point.source else None
    seconds = _epoch_seconds().get(log, []) if log else []
    return Run(
        id=identity,
        kind=kind,
        family=family.name,
        title=point.recipe,
        group=group,
        dataset=IMAGENET,
        hardware=point.hardware or "not stated",
        model=family.model,
        resolution=family.resolution,
        methods=family.methods,
        epochs=_value(point.epochs, point),
        quality=_value(point.top1, point),
        minutes=_minutes(point, seconds),
        printed_rule=_rule(point) if _value(point.minutes, point) is not None else "",
        bounds=_printed(point),
        images_per_s=_value(point.throughput_img_s, point),
        curve=_curves().get(log or point.recipe, Curve()),
        extrapolation_error=extrapolation_error(seconds, _FROM_FIRST) if len(seconds) > _FROM_FIRST else None,
        notes=point.notes,
        citation=point.citation,
        place=point.source,
    )


def _value(figure: Figure | None, point: Point) -> float | None:
    return None if figure is None or point.bounds else figure.value


def _printed(point: Point) -> str:
    """What a row prints that is no plain number, with its sign: bounds, ranges, `~27`, several runs."""
    units = {"epochs": " epochs", "minutes": " min", "top1": " % top-1", "throughput_img_s": " images/s"}
    figures = [(getattr(point, name), unit) for name, unit in units.items()]
    # Rows of Table 1 have their signs in the notes.
    sign = next((sign for words, sign in _SIGNS.items() if point.notes.startswith(words)), "")
    return ", ".join(
        f"{sign if _PLAIN.fullmatch(f.text) else ''}{f.text}{unit}"
        for f, unit in figures
        if f is not None and (point.bounds or not _PLAIN.fullmatch(f.text))
    )


def _minutes(point: Point, epoch_seconds: list[float]) -> Minutes:
    printed, rule = _value(point.minutes, point), _rule(point)
    text = time_to_train(epoch_seconds) / 60 if epoch_seconds else None
    return Minutes(
        text=printed if rule == "text" else text,
        mlperf=printed if rule == "mlperf" else None,
        stated=printed if rule == "stated" else None,
    )


def _rule(point: Point) -> Literal["text", "mlperf", "stated"]:
    """By which rule the minutes of a row were printed."""
    if "MLPerf" in point.recipe or point.source.startswith("mlperf"):
        return "mlperf"
    return "text" if point.source == "reference text" else "stated"


@cache
def _epoch_seconds() -> Mapping[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in curve_rows("mlperf_v20_epoch_times"):
        found[row["recipe"], row["run"]].append(float(row["seconds"]))
    return found


@cache
def _curves() -> Mapping[object, Curve]:
    rows: dict[object, dict[float, tuple[float, float]]] = defaultdict(dict)
    for row in curve_rows("mlperf_v20_curves"):
        system = row["system"].rpartition("-")[2]
        found = (float(row["minutes_since_run_start"]), float(row["top1"]))
        rows[system, row["run"]][float(row["epoch"])] = found
    for row in curve_rows("ffcv_imagenet_curves"):
        # The log counts epochs from 0, and has the last one twice: after it, and at the end of the run.
        found = (float(row["minutes_since_start"]), float(row["top1"]))
        rows[row["recipe"].replace("_", " ")][float(row["epoch"]) + 1] = found
    return {key: Curve.of(points) for key, points in rows.items()}
