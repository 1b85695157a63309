"""The page of one evaluation: what `--evaluate --html` writes."""

from __future__ import annotations

from typing import Any

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.shell import document
from fastpipe.train.evaluate import Evaluated
from fastpipe.train.pages.parts import figure_text, links, section, table
from fastpipe.train.pages.run import split_parts
from fastpipe.train.pages.style import PAGE_STYLE


def evaluation_page(evaluated: Evaluated) -> str:
    """The sections of every split, and all sets of weights side by side."""
    record = evaluated.record
    title = f"fastpipe-train: {record['model']} on {record['data']}"
    about = " · ".join((record["checkpoint"], record["device"], record["precision"]))
    parts = list(split_parts(evaluated))
    body = el(
        "main",
        el("header", el("h1", title), el("p", about, class_="sub")),
        links((anchor, name) for anchor, name, _ in parts),
        _weights(record["weights"]),
        *(part for _, _, part in parts),
    )
    return document(title, body, style=PAGE_STYLE)


def _weights(found: dict[str, Any]) -> Markup:
    """One row for each set of weights and each split; nothing if there is one row, which is below."""
    rows = [
        (weights, split, one["images"], *(figure_text(one.get(key)) for key in ("top1", "top5", "macro_f1")))
        for weights, splits in found.items()
        for split, one in splits.items()
    ]
    if len(rows) < 2:
        return EMPTY
    heads = ("weights", "split", "images", "top-1", "top-5", "macro F1")
    sub = f"The sections below are those of the {rows[0][0]} weights."
    return section("weights", "Weights", sub, table(heads, rows, words=2))
