"""Hints at the nearest known name, for errors."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

__all__ = ["nearest"]


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at the nearest known name, or an empty string."""
    found = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""
