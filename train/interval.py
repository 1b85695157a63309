"""How often a checkpoint is written: an interval in epochs or in minutes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastpipe.errors import ArgumentError

_FORM = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ep|min)")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Exactly one of the two is above 0."""

    epochs: float = 0.0
    minutes: float = 0.0

    def due(self, step: int, steps_per_epoch: int) -> bool:
        """Whether an interval of epochs ends with `step` steps done; parts of an epoch are whole steps."""
        if not self.epochs:
            return False
        return step % max(1, round(self.epochs * steps_per_epoch)) == 0


def parse_interval(text: str) -> Interval:
    """'1ep', '0.25ep' or '10min'. Raises ArgumentError for anything else, and for 0."""
    match = _FORM.fullmatch(text.strip())
    number = float(match.group(1)) if match else 0.0
    if match is None or number <= 0.0:
        raise ArgumentError(
            "checkpoint_interval must be a number above 0 with ep or min, such as 1ep, 0.25ep or 10min. "
            f"Found: {text!r}"
        )
    return Interval(epochs=number) if match.group(2) == "ep" else Interval(minutes=number)
