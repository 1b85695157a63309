"""The reliability diagram of a split, its figures and its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastpipe.page.markup import Markup, el
from fastpipe.train.measure.words import share_text
from fastpipe.train.pages.parts import figure_text, folded, table, tiles

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 484, 10, 270
_HEIGHT = 312
Bin = Mapping[str, Any]


def calibration(record: Mapping[str, Any]) -> Markup:
    """ECE, NLL and Brier score; the diagram; the table of its bins."""
    bins: Sequence[Bin] = record["bins"]
    head = tiles(
        [
            (f"expected calibration error, {len(bins)} bins", figure_text(record["ece"])),
            ("negative log-likelihood, nats", figure_text(record["nll"])),
            ("Brier score, 0 to 2", figure_text(record["brier"])),
        ]
    )
    rows = [
        (
            f"{one['low']:.2f} to {one['high']:.2f}",
            one["images"],
            share_text(one["confidence"]),
            share_text(one["accuracy"]),
        )
        for one in bins
    ]
    heads = ("probability", "images", "mean probability", "share right")
    drawn = el("div", _accuracy(bins), _images(bins), class_="charts")
    return el("div", head, drawn, folded("The bins", table(heads, rows)))


def _x(share: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * share


def _y(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * share


def _accuracy(bins: Sequence[Bin]) -> Markup:
    diagonal = el("line", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1), class_="limit")
    bars = [_bar(one, one["accuracy"], "worker") for one in bins if one["images"]]
    return _diagram("Share right", [*bars, diagonal])


def _images(bins: Sequence[Bin]) -> Markup:
    """How many answers each bar of the other diagram stands for."""
    number = sum(one["images"] for one in bins) or 1
    bars = [_bar(one, one["images"] / number, "wait") for one in bins if one["images"]]
    return _diagram("Share of the images", bars)


def _diagram(title: str, marks: Sequence[Markup]) -> Markup:
    name = el("title", f"{title} by probability")
    picture = el("svg", name, *_axes(), *marks, viewBox=f"0 0 500 {_HEIGHT}", role="img")
    return el("figure", el("figcaption", title), picture)


def _axes() -> Iterator[Markup]:
    for tenth in range(0, 11, 2):
        share = tenth / 10
        yield el("line", x1=_x(0), x2=_x(1), y1=_y(share), y2=_y(share), class_="grid")
        yield el("text", f"{share:.1f}", x=_LEFT - 8, y=_y(share) + 4, class_="soft end")
        yield el("text", f"{share:.1f}", x=_x(share), y=_BOTTOM + 18, class_="soft mid")
    yield el("text", "probability of the answer", x=_x(0.5), y=_BOTTOM + 36, class_="soft mid")


def _bar(one: Bin, share: float, shape: str) -> Markup:
    words = (
        f"{one['low']:.2f} to {one['high']:.2f}: {one['images']} images, mean probability "
        f"{one['confidence']:.3f}, {one['accuracy']:.3f} right"
    )
    # A bin without a right answer still has a bar that can be seen.
    top = min(_y(share), _BOTTOM - 2)
    return el(
        "rect",
        el("title", words),
        x=_x(one["low"]) + 1,
        width=_x(one["high"]) - _x(one["low"]) - 2,
        y=top,
        height=_BOTTOM - top,
        class_=shape,
    )
