"""The parts that the pages are made of: sections, tiles, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import NONE, number


def section(anchor: str, title: str, sub: str, *body: Markup) -> Markup:
    """A card with a title, a line that says what it shows, and its content."""
    return el("section", el("h2", title), el("p", sub, class_="sub"), *body, id=anchor)


def absent(missing: Sequence[tuple[str, str]]) -> Markup:
    """What is not on the page, and why; nothing without any."""
    if not missing:
        return EMPTY
    items = [el("li", el("b", title), " - ", reason) for title, reason in missing]
    return el("section", el("h2", "Not shown"), el("ul", *items), class_="missing", id="missing")


def links(sections: Iterable[tuple[str, str]]) -> Markup:
    """A line of links to the sections: (anchor, title)."""
    found = [el("a", title, href=f"#{anchor}") for anchor, title in sections]
    return el("nav", *found, aria_label="Sections")


def tiles(shown: Iterable[tuple[str, str | None]]) -> Markup:
    """(name, figure) as tiles; one without a figure is left out."""
    made = [el("div", el("b", value), el("span", name), class_="tile") for name, value in shown if value]
    return el("div", *made, class_="tiles")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> Markup:
    """A table that scrolls when it is too wide. The first `words` columns hold words, the others figures."""

    def kind(place: int) -> str | None:
        return None if place < words else "num"

    head = [el("th", name, class_=kind(place), scope="col") for place, name in enumerate(heads)]
    body = [el("tr", *(el("td", cell, class_=kind(i)) for i, cell in enumerate(row))) for row in rows]
    return wide(el("table", el("tr", *head), *body))


def wide(inner: Markup) -> Markup:
    """A part that scrolls sideways, with the keyboard as well."""
    return el("div", inner, class_="wide", tabindex="0", role="region", aria_label="table")


def folded(title: str, *body: Markup) -> Markup:
    """A part that opens on request."""
    return el("details", el("summary", title), *body)


def pairs(values: Mapping[str, object]) -> Markup:
    """A table of names and values."""
    rows = [el("tr", el("td", name, class_="label"), el("td", value)) for name, value in values.items()]
    return el("table", *rows)


def figure_text(value: Any, form: str = ".3f", unit: str = "") -> str:
    """A number in a format, or a dash for whatever is no finite number."""
    found = number(value)
    return NONE if found is None else f"{found:{form}}{unit}"


def known_text(value: Any, form: str = ".3f", unit: str = "") -> str | None:
    """The same, or None for whatever is no finite number."""
    return None if number(value) is None else figure_text(value, form, unit)
