"""The page of one run: what it reached, its curves, what it gets wrong, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import number
from fastpipe.page.shell import document
from fastpipe.train.config.group_files import dump_yaml
from fastpipe.train.evaluate import Evaluated
from fastpipe.train.measure.sheet import tiles_of
from fastpipe.train.output.progress import clock_text
from fastpipe.train.pages.curves import curves
from fastpipe.train.pages.parts import absent, folded, known_text, links, pairs, section, tiles
from fastpipe.train.pages.reading import CONFIG, RunFiles
from fastpipe.train.pages.split import figures_section, split_sections
from fastpipe.train.pages.style import PAGE_STYLE

Part = tuple[str, str, Markup]
"""Anchor, title, section."""


def run_page(run: RunFiles, evaluated: Evaluated | str, profile: str | None = None) -> str:
    """The page. evaluated: the checkpoint's measures, or why there are none. profile: a page to link to."""
    title = f"fastpipe-train: {_known(run, 'model')} on {_known(run, 'data')}"
    parts = list(_parts(run, evaluated))
    body = el(
        "main",
        el("header", el("h1", title), el("p", _about(run), class_="sub")),
        links((anchor, name) for anchor, name, _ in parts),
        section("result", "Result", _state(run), _tiles(run), _linked(profile)),
        *(part for _, _, part in parts),
        absent(list(_missing(run, evaluated))),
    )
    return document(title, body, style=PAGE_STYLE)


def _known(run: RunFiles, key: str) -> str:
    return str(run.summary.get(key) or run.config.get(key) or f"unknown {key}")


def _about(run: RunFiles) -> str:
    found = [_known(run, "recipe"), str(run.folder)]
    for key in ("device", "precision", "backend"):
        found += [str(run.summary[key])] if run.summary.get(key) else []
    return " · ".join(found)


def _state(run: RunFiles) -> str:
    wanted = number(run.config.get("epochs"))
    of = f" of {wanted:.0f}" if wanted else ""
    ended = f"{len(run.epochs)}{of} epochs were measured."
    return ended if run.summary else f"This run has not finished: {ended}"


def _tiles(run: RunFiles) -> Markup:
    found = dict(run.summary or (run.epochs[-1] if run.epochs else {}))
    seconds = number(found.get("time_to_train_s"))
    count = number(run.environment.get("processes", found.get("processes")))
    return tiles(
        [
            ("validation top-1", known_text(found.get("top1"))),
            ("validation top-5", known_text(found.get("top5"))),
            ("validation top-1, raw weights", known_text(found.get("top1_raw"))),
            ("test top-1", known_text(found.get("test_top1"))),
            ("validation mAP", known_text(found.get("map"))),
            ("validation MAE", known_text(found.get("mae"), ".4g")),
            ("time to train, h:mm:ss", None if seconds is None else clock_text(seconds)),
            ("images/s", known_text(found.get("images_per_s"), ",.0f")),
            ("of the time waits for data", known_text(found.get("data_wait_share"), ".0%")),
            ("processes", None if count is None or count < 2 else f"{count:.0f}"),
            ("cost", known_text(found.get("cost"), ".4g")),
            ("energy, kWh", known_text(found.get("energy_kwh"), ".4g")),
        ]
    )


def _linked(profile: str | None) -> Markup:
    return EMPTY if profile is None else el("p", el("a", "The profile of this run", href=profile))


def _parts(run: RunFiles, evaluated: Evaluated | str) -> Iterator[Part]:
    if run.epochs or run.steps:
        title = "Curves"
        sub = "Accuracies are on validation; where weights are averaged (EMA), theirs."
        yield "curves", title, section("curves", title, sub, curves(run))
    if isinstance(evaluated, Evaluated):
        yield from split_parts(evaluated)
    if run.config:
        yield "settings", "Settings", section("settings", "Settings", _REPEAT, _settings(run))
    if run.environment:
        shown = {key: str(value) for key, value in run.environment.items() if value is not None}
        sub = "Where the newest part of the run was trained."
        yield "environment", "Environment", section("environment", "Environment", sub, pairs(shown))


def split_parts(evaluated: Evaluated) -> Iterator[Part]:
    """The sections of every split, with the weights whose top-1 the run reports."""
    for name, record in evaluated.reported.items():
        if "confusion" in record:
            yield from split_sections(name, record, tiles_of(evaluated.splits[name], record["mistakes"]))
        else:  # several labels, or numbers: their metrics
            yield figures_section(name, record)


_REPEAT = "This command repeats the run; the file has every setting."


def _settings(run: RunFiles) -> Markup:
    command = shlex.join(
        ["fastpipe-train", "--recipe", str(run.folder / CONFIG), "--output-dir", "runs/again"]
    )
    return el("div", el("pre", command), folded("All settings", el("pre", dump_yaml(run.config))))


def _missing(run: RunFiles, evaluated: Evaluated | str) -> Iterator[tuple[str, str]]:
    for problem in run.problems:
        yield "Run folder", problem
    if not run.epochs:
        yield "Accuracy", "no epoch has ended yet."
    if isinstance(evaluated, str):
        yield "Classes, confusion, calibration, mistakes", evaluated
    elif "test" not in evaluated.splits and len(evaluated.splits) == 1:
        yield "Test", "the data has no test split."
    if not run.environment:
        yield "Environment", "the run did not record it: it is of an earlier version."
