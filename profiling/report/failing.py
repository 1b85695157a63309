"""`--fail-if "stall>5%"`: a condition on the report, for continuous integration."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastpipe.errors import ArgumentError, nearest

FAILED = 3
"""Exit status of a run whose condition holds."""

NAMES = {
    "stall": "%",
    "images_per_s": "",
    "loader_images_per_s": "",
    "prediction_error": "%",
    "wait_p99_ms": "",
    "worker_mb": "",
}
"""What a condition may be about, and its unit."""

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison. Shares are in per cent."""

    name: str
    sign: str
    limit: float

    def holds(self, values: Mapping[str, float | None]) -> bool:
        """Whether it holds. ArgumentError if the value was not measured: such a run must not pass."""
        found = values[self.name]
        if found is None:
            raise ArgumentError(f"fail_if: {self.name} was not measured in this run. Ask for another figure")
        return _SIGNS[self.sign](found, self.limit)


def parse_condition(text: str) -> Condition:
    """Read NAME SIGN NUMBER, with % for shares. ArgumentError says what is allowed."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([0-9.]+)\s*(%?)\s*", text)
    names = ", ".join(f"{name}{' (%)' if unit else ''}" for name, unit in NAMES.items())
    if match is None or match[1] not in NAMES or match[4] != NAMES[match[1]]:
        hint = nearest(match[1], list(NAMES)) if match else ""
        raise ArgumentError(
            f"fail_if must be like 'stall>5%' or 'images_per_s<2000', with one of {names}. "
            f"Found: {text!r}.{hint}"
        )
    try:
        limit = float(match[3])
    except ValueError as error:
        raise ArgumentError(f"fail_if needs a number after {match[2]}. Found: {text!r}") from error
    return Condition(name=match[1], sign=match[2], limit=limit)
