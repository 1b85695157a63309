"""Past predictions and their measurements, kept in the user's cache folder as JSON lines."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastpipe.system.files import make_dir, replace_file, user_cache_dir

_KEPT = 500
_LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A prediction and its measurement, images/s of the loader alone. error: predicted / measured - 1."""

    fix: str
    predicted: float
    low: float
    high: float
    measured: float
    when: str = ""

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1.0

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.low <= self.measured <= self.high


def history_path(folder: str | None = None) -> Path:
    """Where they are kept: profile/predictions.jsonl of the user's cache folder."""
    return user_cache_dir(folder) / "profile" / "predictions.jsonl"


def remember(checked: list[Checked], folder: str | None = None) -> None:
    """Append, keeping the last 500. Raises DataError or OSError if the folder cannot be written."""
    path = history_path(folder)
    make_dir(path.parent)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    lines += [json.dumps({**asdict(one), "when": one.when or now}) for one in checked]
    text = "\n".join(lines[-_KEPT:]) + "\n"
    replace_file(str(path), lambda file: file.write(text.encode()))


def past_errors(folder: str | None = None) -> list[Checked]:
    """The kept predictions, oldest first; lines of another form are skipped."""
    path = history_path(folder)
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            values: dict[str, Any] = json.loads(line) if len(line) <= _LONGEST_LINE else {}
            found.append(Checked(**values))
        except (TypeError, ValueError):
            continue
    return found
