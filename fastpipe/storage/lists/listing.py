"""Places in a list or file, named in messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Where = Callable[[int], str]
_MOST = 20


def some(found: Sequence[str], most: int = _MOST) -> str:
    """The first of them in words, and how many more there are."""
    more = len(found) - most
    return "; ".join(found[:most]) + (f"; and {more} more" if more > 0 else "")
