"""The page as one HTML file: data, style, plotly's script and ours; nothing comes from a network.

The shell (head, colours, type, escaping of markup) is that of the other pages: `fastpipe/page/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastpipe.errors import MissingExtraError
from fastpipe.explore.payload import as_json
from fastpipe.page.markup import Markup, el
from fastpipe.page.shell import document
from fastpipe.page.theme import DARK, LIGHT, RULES

_HERE = Path(__file__).parent
# In the order in which one uses the other.
_SCRIPTS = (
    "methods",
    "dom",
    "state",
    "model",
    "chart",
    "tables",
    "run",
    "controls",
    "hosts",
    "settings",
    "main",
)
# plotly's WebGL traces compile their drawing code: unsafe-eval. `connect-src` is for --serve alone.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; connect-src {connect}"
)
_TITLE = "fastpipe-explore"


def page(values: Mapping[str, Any]) -> str:
    """The whole page for what `payload` gives. Raises MissingExtraError without plotly."""
    policy = _POLICY.format(connect="'self'" if values["serving"] else "'none'")
    scripts = [
        el("script", Markup(as_json(values)), type="application/json", id="data"),
        el("script", Markup(_plotly())),
        el("script", Markup(script())),
    ]
    return document(_TITLE, _main(), *scripts, style=style(), policy=policy)


def style() -> str:
    """The colours by the system's choice, or by the reader's; the profiler's rules; ours."""
    own = (_HERE / "explore.css").read_text(encoding="utf-8")
    return (
        f":root {{ color-scheme: light dark;{LIGHT}}}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{{DARK}}} }}\n"
        f':root[data-theme="light"] {{ color-scheme: light;{LIGHT}}}\n'
        f':root[data-theme="dark"] {{ color-scheme: dark;{DARK}}}\n{RULES}{own}'
    )


@cache
def script() -> str:
    """Our script, as one function's body so that it leaves no names behind."""
    parts = [(_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();\n"


@cache
def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtraError("plotly", "explore", "The page of fastpipe-explore") from error
    # The library's own text holds no end of a script element; a later version's might.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _main() -> Markup:
    bar = {"class_": "bar"}
    return el(
        "main",
        el("header", el("div", el("h1", _TITLE), el("p", id="sub", class_="sub")), el("button", id="theme")),
        el("noscript", "This page draws with JavaScript, all of which is in the file."),
        el(
            "p",
            "The server does not answer: these are the last figures.",
            id="lost",
            hidden="",
            class_="warning",
        ),
        el("details", id="problems", hidden=""),
        el("div", id="filters", role="group", aria_label="Filters", **bar),
        el("p", _MIXED, id="mixed", hidden="", class_="warning"),
        el("p", _NAMELESS, id="nameless", hidden="", class_="warning"),
        el("div", id="tabs", role="tablist"),
        el("section", el("div", id="measures", **bar), *_panels()),
    )


_MIXED = "Runs of several data sets are shown together, as asked: their accuracies do not compare."

_NAMELESS = "Nobody says what these runs trained on: their accuracies compare only if it is the same data."


def _panels() -> list[Markup]:
    csv, note = "CSV", {"class_": "sub"}
    return [
        _panel(
            "chart",
            el("div", id="plot", class_="plot", role="img"),
            el("div", el("p", id="plot-note", **note), _actions(el("button", "PNG", id="png")), class_="bar"),
        ),
        _panel(
            "compare",
            el("div", id="compare-controls", class_="bar"),
            el("p", id="compare-answer"),
            el("div", id="compare-table"),
            _actions(el("button", csv, id="compare-csv")),
        ),
        _panel(
            "hosts",
            el("p", id="hosts-note", **note),
            el("div", id="hosts-table"),
            _actions(el("button", csv, id="hosts-csv")),
        ),
        _panel(
            "settings",
            el("div", id="settings-controls", class_="bar"),
            el("div", id="coordinates", class_="plot", role="img"),
            el("p", id="settings-note", **note),
        ),
        _panel("runs", el("div", id="runs-table"), _actions(el("button", csv, id="runs-csv"))),
        _panel("run", el("div", id="run-body")),
    ]


def _panel(name: str, *children: Markup) -> Markup:
    return el("div", *children, id=f"panel-{name}", role="tabpanel")


def _actions(*buttons: Markup) -> Markup:
    return el("div", *buttons, class_="actions")
