"""Numbers of a page: read with care, since a file may hold anything; shown short; on round axes."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["NONE", "number", "rate", "round_steps"]

NONE = "-"
"""The text of a table cell without a figure."""


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def round_steps(most: float, parts: int) -> list[float]:
    """0 and the multiples of 1, 2 or 5 times a power of ten up to `most`, about `parts` of them."""
    rough = most / max(parts, 1)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    stride = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [stride * place for place in range(int(most / stride + 1e-9) + 1)]


def rate(value: float | None) -> str:
    """1,234 or 12.3, or a dash."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
