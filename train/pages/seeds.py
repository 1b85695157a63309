"""The page of a folder that --seeds wrote: the runs over each other, and their spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.shell import document
from fastpipe.train.pages.chart import Line, chart
from fastpipe.train.pages.curves import of_epochs
from fastpipe.train.pages.parts import absent, figure_text, section, table
from fastpipe.train.pages.reading import RunFiles
from fastpipe.train.pages.style import PAGE_STYLE

_SHAPES = ("worker", "main", "model")
_SHOWN = {"top1": ("top-1", ".3f"), "top5": ("top-5", ".3f"), "time_to_train_s": ("time to train, s", ",.1f")}
_STATISTICS = ("mean", "standard_deviation", "minimum", "maximum")


def seeds_page(folder: Path, results: Mapping[str, Any], runs: Sequence[RunFiles]) -> str:
    """`results` is what seeds.json holds; `runs` are the folders in it that can be read."""
    title = f"fastpipe-train: {len(results.get('seeds', ()))} seeds"
    body = el(
        "main",
        el("header", el("h1", title), el("p", folder, class_="sub")),
        section("spread", "Spread", "Standard deviations are those of a sample.", _spread(results)),
        section("runs", "Runs", "Each has a page of its own: --report with its folder.", _runs(results)),
        section("curves", "Curves", "A line is a seed.", _curves(runs)) if runs else EMPTY,
        absent(list(_missing(results, runs))),
    )
    return document(title, body, style=PAGE_STYLE)


def _spread(results: Mapping[str, Any]) -> Markup:
    found = results.get("statistics", {})
    rows = [
        (name, *(figure_text((found.get(key) or {}).get(one), form) for one in _STATISTICS))
        for key, (name, form) in _SHOWN.items()
        if found.get(key)
    ]
    return table(("", "mean", "standard deviation", "minimum", "maximum"), rows)


def _runs(results: Mapping[str, Any]) -> Markup:
    rows = [
        (
            one.get("seed"),
            one.get("folder"),
            *(figure_text(one.get(k), form) for k, (_, form) in _SHOWN.items()),
        )
        for one in results.get("runs", ())
    ]
    return table(("seed", "folder", *(name for name, _ in _SHOWN.values())), rows, words=2)


def _curves(runs: Sequence[RunFiles]) -> Markup:
    charts = [_chart(runs, key, name) for key, name in (("top1", "Top-1"), ("loss", "Loss"))]
    return el("div", *charts, class_="charts")


def _chart(runs: Sequence[RunFiles], key: str, name: str) -> Markup:
    lines = [
        Line(name=run.folder.name, points=of_epochs(run.epochs, key), shape=_SHAPES[place % len(_SHAPES)])
        for place, run in enumerate(runs)
    ]
    return chart(name, lines, from_zero=key != "loss", form=".3f")


def _missing(results: Mapping[str, Any], runs: Sequence[RunFiles]) -> Iterator[tuple[str, str]]:
    for run in runs:
        for problem in run.problems:
            yield run.folder.name, problem
    done = {one.get("seed") for one in results.get("runs", ())}
    for seed in results.get("seeds", ()):
        if seed not in done:
            yield f"seed {seed}", "it has not finished."
