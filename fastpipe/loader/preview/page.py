"""A preview as HTML: the same images, with their operations under the pointer and for a screen reader."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from fastpipe.loader.preview.row import Row
from fastpipe.loader.preview.sheet import as_shown, by_image, cell_side

_STYLE = (
    ".fastpipe-preview{font:12px/1.35 system-ui,sans-serif;color:#141414;background:#fff;padding:12px}"
    ".fastpipe-preview div{display:flex;flex-wrap:wrap;gap:10px;margin:0 0 10px}"
    ".fastpipe-preview figure{margin:0}"
    ".fastpipe-preview small{display:block;color:#6e6e6e;font-size:12px}"
)


def fragment(rows: Sequence[Row], title: str, notes: Sequence[str]) -> str:
    """A piece of HTML without references to other files, for a notebook."""
    side = cell_side(rows)
    several = len({row.epoch for row in rows}) > 1
    lines = by_image(rows) if several else [list(rows)]
    head = "".join(f"<p>{html.escape(text)}</p>" for text in (title, *notes))
    body = "".join(f"<div>{''.join(_figure(row, side) for row in line)}</div>" for line in lines)
    return f'<section class="fastpipe-preview"><style>{_STYLE}</style>{head}{body}</section>'


def page(rows: Sequence[Row], title: str, notes: Sequence[str]) -> str:
    """The same as a whole document."""
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{fragment(rows, title, notes)}</body>\n'


def _figure(row: Row, side: int) -> str:
    known = "" if row.id is None else f"image {row.id}"
    words = " · ".join(part for part in (known, row.name, f"epoch {row.epoch}", row.label) if part)
    operations = [html.escape(str(one)) for one in row.operations]
    tip = html.escape(words) + "".join(f"&#10;{one}" for one in operations)
    lines = "".join(f"<small>{one}</small>" for one in operations)
    caption = f"<figcaption>{html.escape(words)}{lines}</figcaption>"
    image = _image(row, side, html.escape(words))
    return f'<figure style="width:{side}px" title="{tip}">{image}{caption}</figure>'


def _image(row: Row, side: int, words: str) -> str:
    if row.pixels is None:
        return "<small>not in this epoch</small>"
    file = io.BytesIO()
    as_shown(row.pixels, side).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{words}" src="data:image/png;base64,{data}">'
