"""The head and the frame of a page in one file."""

from __future__ import annotations

from fastpipe.page.markup import Markup, el
from fastpipe.page.theme import STYLE

__all__ = ["document"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, *body: Markup, style: str = STYLE, policy: str = _POLICY) -> str:
    """The whole page. `policy` is its Content-Security-Policy: the browser itself refuses everything else."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Markup(style)),
    )
    return f"<!doctype html>\n{el('html', head, el('body', *body), lang='en')}\n"
