"""Reading a report that another version may have written: a missing value is None, never a guess."""

from __future__ import annotations

from typing import Any

from fastpipe.page.numbers import number

Spread = tuple[float, float, float]
"""Median, low, high."""


def spread(value: Any) -> Spread | None:
    """(median, low, high) of such a dictionary or of a bare number; None otherwise."""
    bare = number(value)
    if bare is not None:
        return bare, bare, bare
    if not isinstance(value, dict):
        return None
    median = number(value.get("median", value.get("value")))
    if median is None:
        return None
    low, high = number(value.get("low")), number(value.get("high"))
    return median, median if low is None else low, median if high is None else high


def interval(row: dict[str, Any]) -> Spread | None:
    """A stage's images/s as the terminal shows it: the median, with the 95 % interval if there is one.

    The interval belongs to the mean. The centre of the interval is not shown as the rate, since it would
    differ from the rate in the table.
    """
    rate, wide = spread(row.get("images_per_s")), spread(row.get("images_per_s_interval"))
    if rate is None or wide is None:
        return rate or wide
    return rate[0], wide[1], wide[2]


def rows(value: Any) -> list[dict[str, Any]]:
    """The dictionaries of a list; none of anything else."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def duration(seconds: float) -> str:
    """With a unit that suits it."""
    if seconds == 0:
        return "0"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
