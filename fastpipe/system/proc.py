"""Reading /proc and /sys below a root that tests can replace."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ROOT", "lines", "number", "span", "text"]

ROOT = Path("/")


def text(path: Path) -> str | None:
    """The stripped content of a small file; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def lines(path: Path) -> list[str]:
    """The file's lines; none if it cannot be read."""
    found = text(path)
    return found.splitlines() if found else []


def number(path: Path) -> int | None:
    """The whole number in a file; None if there is none ("max", a missing file)."""
    found = text(path)
    try:
        return int(found) if found else None
    except ValueError:
        return None


def span(listed: str) -> set[int]:
    """The numbers of a kernel list such as "0-3,8,10-11"."""
    found: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
