"""The curves of a run: loss, accuracy, rate, resolution, speed and waiting, by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fastpipe.page.markup import Markup, el
from fastpipe.page.numbers import number
from fastpipe.train.pages.chart import Line, Point, chart
from fastpipe.train.pages.parts import figure_text, folded, table
from fastpipe.train.pages.reading import RunFiles, Values

_COLUMNS = {
    "loss": ("loss", ".3f"),
    "top1": ("top-1", ".3f"),
    "top5": ("top-5", ".3f"),
    "top1_raw": ("raw top-1", ".3f"),
    "images_per_s": ("images/s", ",.1f"),
    "data_wait_share": ("data wait", ".1%"),
    "train_s": ("training, s", ",.1f"),
    "validation_s": ("validation, s", ",.1f"),
}
_NO_MEASURES = {"kind", "step", "epoch", "top5_raw", *_COLUMNS}
_RAW = "_raw"


def curves(run: RunFiles) -> Markup:
    """All charts that have a value, and the figures of every epoch as a table."""
    charts = [figure for figure in _charts(run) if figure]
    columns = {**_COLUMNS, **{key: (key, ".4g") for key in other_measures(run.epochs)}}
    rows = [_row(entry, columns) for entry in run.epochs]
    heads = ("epoch", *(name for name, _ in columns.values()))
    return el("div", el("div", *charts, class_="charts"), folded("All epochs", table(heads, rows, words=0)))


def _charts(run: RunFiles) -> Iterator[Markup]:
    steps, epochs = run.steps, run.epochs
    at = _epoch_of_steps(run)
    yield chart(
        "Loss",
        [
            Line(name="step", points=of_steps(steps, at, "loss"), shape="wait"),
            Line(name="epoch", points=of_epochs(epochs, "loss")),
        ],
        from_zero=False,
    )
    names = {"top1": "top-1", "top5": "top-5", "top1_raw": "top-1, raw weights"}
    shapes = ("worker", "main", "model")
    accuracy = [
        Line(name=name, points=of_epochs(epochs, key), shape=shape)
        for (key, name), shape in zip(names.items(), shapes, strict=True)
    ]
    yield chart("Accuracy", accuracy, form=".3f")
    for key in other_measures(epochs):
        lines = [Line(name=key, points=of_epochs(epochs, key))]
        lines.append(Line(name=key + _RAW, points=of_epochs(epochs, key + _RAW), shape="model"))
        yield chart(key, lines)
    yield chart("Learning rate", [Line(name="rate", points=of_steps(steps, at, "lr"))])
    yield chart("Resolution, pixels", [Line(name="side", points=of_steps(steps, at, "resolution"))])
    yield chart("Images per second", [Line(name="images/s", points=of_epochs(epochs, "images_per_s"))])
    yield chart(
        "Share of the time that waits for data",
        [Line(name="data wait", points=of_epochs(epochs, "data_wait_share"), shape="model")],
    )


def of_epochs(epochs: Sequence[Values], key: str) -> list[Point]:
    """(number of the epoch from 1, value or None where it is not finite)."""
    return [(float(entry["epoch"] + 1), number(entry.get(key))) for entry in epochs]


def of_steps(steps: Sequence[Values], at: Mapping[int, float], key: str) -> list[Point]:
    """(epochs trained after the step, value or None where it is not finite)."""
    return [(at[entry["step"]], number(entry.get(key))) for entry in steps]


def _epoch_of_steps(run: RunFiles) -> dict[int, float]:
    """Epochs trained after each step (from 0). An epoch's line has the number of steps until its end."""
    per_epoch = next((entry["step"] / (entry["epoch"] + 1) for entry in run.epochs if _counts(entry)), None)
    if per_epoch is None:  # no epoch has ended: its length is not known
        last = max((entry["step"] for entry in run.steps), default=0)
        per_epoch = float(last + 1)
    return {entry["step"]: (entry["step"] + 1) / per_epoch for entry in run.steps}


def _counts(entry: Values) -> bool:
    return bool(number(entry.get("step")))


def other_measures(epochs: Sequence[Values]) -> list[str]:
    """The further numbers that the lines of epochs have, such as those of --metric; without the raw ones."""
    keys = dict.fromkeys(key for entry in epochs for key, value in entry.items() if number(value) is not None)
    return [key for key in keys if key not in _NO_MEASURES and not key.endswith(_RAW)]


def _row(entry: Values, columns: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    shown = (figure_text(entry.get(key), form) for key, (_, form) in columns.items())
    return str(entry["epoch"] + 1), *shown
