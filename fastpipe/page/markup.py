"""HTML and SVG as strings that are escaped by type: only results of `el` count as markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["EMPTY", "Markup", "el"]

_VOID = {"meta", "br", "img", "line", "rect", "circle", "path"}


class Markup(str):
    """Text that is HTML already. Everything else is escaped."""

    __slots__ = ()


EMPTY = Markup("")


def el(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. Attributes: `class_` is class, `stroke_width` is stroke-width; None leaves one out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_plain(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = join(children)
    if name in _VOID and not inner:
        return Markup(f"<{name}{shown}/>" if name not in ("meta", "br", "img") else f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{inner}</{name}>")


def join(children: Iterable[object]) -> Markup:
    """The children in order, escaped unless they are markup; None adds nothing."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(_plain(child), quote=False)
            for child in children
            if child is not None
        )
    )


def _plain(value: object) -> str:
    # Two decimals of a CSS pixel are more than a screen shows.
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
