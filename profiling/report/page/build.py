"""The page: one HTML file of a report, without scripts and without anything from a network.

Drawn by hand as SVG: plotly would put 4 MB of JavaScript into each page and
is not in the core install; five plain charts need no script, print, and follow light and dark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import number, rate
from fastpipe.page.shell import document
from fastpipe.profiling import names
from fastpipe.profiling.host.show import card_lines
from fastpipe.profiling.report.page.fixes import fixes
from fastpipe.profiling.report.page.scaling import scaling
from fastpipe.profiling.report.page.stages import rates, stage_table, waterfall
from fastpipe.profiling.report.page.stalls import checks, interference, stalls, waits, what_if
from fastpipe.profiling.report.page.timeline import timeline
from fastpipe.profiling.report.page.values import rows, spread

__all__ = ["page"]

Draw = Callable[[dict[str, Any]], Markup]
Section = tuple[str, str, str, str, Draw]
"""Key in the report, title, what it shows, why it may be missing, and what draws it."""


def page(report: dict[str, Any]) -> str:
    """The whole page of a report as `fastpipe-profile --json` writes it, with a list of missing sections."""
    work = report.get("workload") or {}
    title = f"fastpipe-profile: {work.get('model', 'a model')} on {_of(report, 'data', 'name') or 'data'}"
    body = [_heading(title, report), *_arranged(report), _footer(report)]
    return document(title, el("main", *body))


def _of(report: dict[str, Any], section: str, key: str) -> Any:
    found = report.get(section)
    return found.get(key) if isinstance(found, dict) else None


def _heading(title: str, report: dict[str, Any]) -> Markup:
    work = report.get("workload") if isinstance(report.get("workload"), dict) else {}
    parts = [
        _of(report, "host", "cpu"),
        _of(report, "host", "gpu") or "no GPU",
        f"{work.get('resolution')} px, batch {work.get('batch_size')}, {work.get('workers')} workers"
        if work
        else None,
        report.get("created"),
    ]
    return el(
        "header", el("h1", title), el("p", " · ".join(str(part) for part in parts if part), class_="sub")
    )


def _section(report: dict[str, Any], key: str, title: str, sub: str, missing: str, draw: Draw) -> Markup:
    """A drawn section, or a line of the last one that says why it is not drawn."""
    if report.get(key) is None:
        return _lacking(key, title, f"not in this report: {missing}")
    try:
        body = draw(report)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        known = isinstance(error, ValueError) and error.args
        return _lacking(key, title, f"nothing to draw: {error.args[0] if known else 'another form'}.")
    return el("section", el("h2", title), el("p", sub, class_="sub"), body, id=key)


def _lacking(key: str, title: str, reason: str) -> Markup:
    return el("li", el("b", title), " - ", reason, id=key)


def _arranged(report: dict[str, Any]) -> list[Markup]:
    """The drawn sections in their order, and one that lists the others."""
    made = [_section(report, *section) for section in SECTIONS]
    lacking = [part for part in made if part.startswith("<li")]
    drawn = [part for part in made if not part.startswith("<li")]
    if lacking:
        drawn.append(el("section", el("h2", "Not drawn"), el("ul", *lacking), class_="missing", id="missing"))
    return drawn


def _verdict(report: dict[str, Any]) -> Markup:
    verdict = report["verdict"]
    sentences = [str(line) for line in verdict.get("sentences") or [verdict["text"]]]
    lead = el("p", sentences[0], class_="lead")
    details = [str(line) for line in verdict.get("details") or []]  # before 2.1 they were sentences
    rest = [el("p", sentence) for sentence in (*sentences[1:], *details)]
    return el("div", lead, _tiles(report), *rest)


def _tiles(report: dict[str, Any]) -> Markup:
    verdict = report["verdict"]
    measured = {str(row.get("name")): spread(row.get("images_per_s")) for row in rows(report.get("together"))}
    shown = [
        ("bottleneck", verdict.get("bottleneck")),
        ("images/s the model alone could take", _rate(verdict.get("model_images_per_s"))),
        ("images/s the loader alone gives", _median(measured.get(names.words(names.OURS)))),
        ("images/s together", _median(measured.get(names.words(names.TOGETHER)))),
        ("CPUs the loader needs to keep up", _count(verdict.get("cpus_needed"))),
    ]
    tiles = [el("div", el("b", value), el("span", name), class_="tile") for name, value in shown if value]
    return el("div", *tiles, class_="tiles")


def _rate(value: Any) -> str | None:
    found = number(value)
    return None if found is None else rate(found)


def _median(value: tuple[float, float, float] | None) -> str | None:
    return None if value is None else rate(value[0])


def _count(value: Any) -> str | None:
    found = number(value)
    return None if found is None else f"{found:.2g}" if found < 10 else f"{found:,.0f}"


def _both(report: dict[str, Any]) -> Markup:
    return el("div", waterfall(report), el("h2", "Rates"), el("p", _RATES, class_="sub"), rates(report))


_RATES = (
    "Median images per second of each stage alone, and of several together; whiskers are the 95 % intervals "
    "of the mean. Red is the slowest stage of the path."
)


def _card(report: dict[str, Any]) -> Markup:
    card = report["host_card"]
    lines = [el("tr", el("td", label, class_="label"), el("td", text)) for _, label, text in card_lines(card)]
    notes = [el("li", note) for note in card.get("notes", [])]
    return el("div", el("table", *lines), el("ul", *notes) if notes else EMPTY)


def _notes(report: dict[str, Any]) -> Markup:
    notes = [el("li", note) for note in report["notes"]]
    if not notes:
        raise ValueError("there are no notes")
    return el("ul", *notes)


def _footer(report: dict[str, Any]) -> Markup:
    version = _of(report, "host", "fastpipe") or "?"
    schema = report.get("schema_version", "?")
    return el(
        "footer",
        f"Written by fastpipe {version}, report schema {schema}.",
    )


SECTIONS: tuple[Section, ...] = (
    ("verdict", "Verdict", "What limits this training on this machine.", "the run ended early.", _verdict),
    (
        "fixes",
        "Fixes, ranked",
        "Predicted from the measured stages. Whiskers are the intervals of the predictions.",
        "this version of fastpipe-profile predicted none.",
        fixes,
    ),
    (
        "stages",
        "Where an image's time goes",
        "CPU time of one image in the loader, stage by stage.",
        "no stage was timed.",
        _both,
    ),
    (
        "differential",
        "What each part adds to an epoch",
        "Runs that differ by one part. Whiskers are the 95 % intervals of the differences.",
        "no such runs were made.",
        stalls,
    ),
    (
        "scaling",
        "Scaling with workers",
        "Images per second of the loader alone.",
        "the loader was measured at one worker count only.",
        scaling,
    ),
    (
        "timeline",
        "A few batches",
        "Steady state, with the torchvision backend. Numbers are batches; hover to see durations.",
        "--html and --trace record it.",
        timeline,
    ),
    (
        "interference",
        "The model next to a busy loader",
        "Rate of the model step while decoding takes a share of the CPUs.",
        "the model step was timed with idle CPUs only.",
        interference,
    ),
    ("latency", "Waiting for batches", "The loader alone.", "single waits were not measured.", waits),
    (
        "verified",
        "Checked predictions",
        "Fixes applied on this machine, predicted and measured.",
        "--verify applies the fixes that can be run.",
        checks,
    ),
    ("what_if", "What if", "Predicted, not measured.", "--what-if adds it.", what_if),
    (
        "together",
        "All figures",
        "Medians, with the 95 % interval of the mean; n repeats.",
        "no loader was timed.",
        stage_table,
    ),
    ("host_card", "Host", "What this machine is.", "fastpipe-profile host shows it.", _card),
    ("notes", "Notes", "What to know about these figures.", "the report has none.", _notes),
)
