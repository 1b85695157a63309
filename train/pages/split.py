"""What a model does on one split: figures, classes, confusion, calibration, mistakes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from fastpipe.page.markup import EMPTY, Markup, el
from fastpipe.page.numbers import number
from fastpipe.train.measure.sheet import Tile
from fastpipe.train.measure.words import pairs_of, share_text, worst_first
from fastpipe.train.pages.calibration import calibration
from fastpipe.train.pages.parts import figure_text, folded, known_text, pairs, section, table, tiles, wide

MATRIX_CLASSES = 40
"""Up to so many classes the matrix of confusion is drawn."""
_PAIRS = 20
_QUALITY = 80  # of the thumbnails' JPEG
Record = Mapping[str, Any]


def split_sections(name: str, record: Record, shown: Sequence[Tile]) -> Iterator[tuple[str, str, Markup]]:
    """(anchor, title, section) of a split's record; `shown` are its mistakes with their pictures."""
    made = (
        ("classes", "classes", f"{record['images']} images.", _classes(record)),
        ("confusion", "confusion", "Rows are labels, columns are predictions.", _confusion(record)),
        ("calibration", "calibration", _CALIBRATION, calibration(record["calibration"])),
        ("mistakes", "mistakes", _about(record), _mistakes(shown)),
    )
    for anchor, title, sub, body in made:
        anchor, title = f"{name}-{anchor}", f"{name.capitalize()}: {title}"
        yield anchor, title, section(anchor, title, sub, body)


def figures_section(name: str, record: Record) -> tuple[str, str, Markup]:
    """The numbers of a split whose labels are not classes: there is no confusion of them."""
    title = f"{name.capitalize()}: measures"
    found = {key: figure_text(value, ".4g") for key, value in record.items() if number(value) is not None}
    return f"{name}-measures", title, section(f"{name}-measures", title, "", pairs(found))


_CALIBRATION = (
    "Of the answers that were given with a probability, the share that is right; on the dashed line both are "
    "equal. Bars are as wide as the 15 bins."
)


def _classes(record: Record) -> Markup:
    head = tiles(
        [
            ("top-1", figure_text(record["top1"])),
            ("top-5", known_text(record["top5"])),
            ("macro F1", figure_text(record["macro_f1"])),
        ]
    )
    names = worst_first(record)
    rest = [name for name in record["classes"] if name not in set(names)]
    if not rest:
        return el("div", head, _class_table(record, names))
    words = f"Of {len(record['classes'])} classes, the {len(names)} with the least F1."
    return el(
        "div",
        head,
        el("p", words),
        _class_table(record, names),
        folded("The other classes", _class_table(record, rest)),
    )


def _class_table(record: Record, names: Sequence[str]) -> Markup:
    rows = []
    for name in names:
        one = record["classes"][name]
        shares = (share_text(one[key]) for key in ("recall", "precision", "f1"))
        rows.append((name, one["support"], one["predicted"], *shares))
    return table(("class", "images", "predicted", "recall (top-1)", "precision", "F1"), rows)


def _confusion(record: Record) -> Markup:
    names = list(record["classes"])
    pairs = pairs_of(record, _PAIRS)
    listed = table(("label", "taken for", "images"), pairs, words=2) if pairs else el("p", "No mistakes.")
    if len(names) > MATRIX_CLASSES:
        return el("div", el("p", f"The {len(pairs)} most frequent confusions."), listed)
    return el(
        "div", wide(_matrix(record["confusion"], names)), folded("The most frequent confusions", listed)
    )


def _matrix(confusion: Mapping[str, Mapping[str, int]], names: Sequence[str]) -> Markup:
    heads = [
        el("th", place, class_="turn", scope="col", title=name) for place, name in enumerate(names, start=1)
    ]
    rows = []
    for place, name in enumerate(names, start=1):
        row = confusion.get(name, {})
        cells = [_cell(name, other, row.get(other, 0), sum(row.values())) for other in names]
        rows.append(el("tr", el("th", f"{name}  {place}", scope="row"), *cells))
    return el("table", el("tr", el("th"), *heads), *rows, class_="matrix")


def _cell(label: str, predicted: str, count: int, whole: int) -> Markup:
    """A count; the colour is as strong as its share of the row: green where it is right, red elsewhere."""
    if not count:
        return el("td")
    colour = "--main" if label == predicted else "--alarm"
    strength = 12 + 63 * count / whole
    return el(
        "td",
        count,
        title=f"{label} taken for {predicted}: {count} of {whole}",
        style=f"background: color-mix(in srgb, var({colour}) {strength:.0f}%, transparent)",
    )


def _about(record: Record) -> str:
    wrong = round(record["images"] * (1 - record["top1"])) if record["images"] else 0
    shown = len(record["mistakes"])
    return (
        f"The {shown} most certain of {wrong} wrong answers." if wrong else "Every answer is right."
    ) + " The pictures are small copies, kept in this page."


def _mistakes(shown: Sequence[Tile]) -> Markup:
    return el("div", *map(_figure, shown), class_="mistakes") if shown else EMPTY


def _figure(tile: Tile) -> Markup:
    one = tile.mistake
    picture = (
        el("span", "The image cannot be read any more.", class_="gone")
        if tile.picture is None
        else el("img", src=data_address(tile.picture), alt=f"{one['label']}: {one['path']}")
    )
    return el(
        "figure",
        el("div", picture, class_="frame"),
        el(
            "figcaption",
            el("b", one["label"]),
            f", taken for {one['predicted']} ({figure_text(one['probability'])}; "
            f"the label has {figure_text(one['probability_of_label'])})",
            el("div", one["path"], class_="path"),
        ),
    )


def data_address(picture: Image.Image) -> str:
    """The picture as a JPEG inside an address, so that the page needs no file."""
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"
