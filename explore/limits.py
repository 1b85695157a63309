"""How much of an input is read: somebody else's folder must not fill the memory, and must not block.

docs/explorer.md states the sizes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20
LOGS: Final = 128 * MIB
"""metrics.jsonl, a `.wandb` file, all TensorBoard files of a folder."""
FILES: Final = 64 * MIB
"""CSV files, records of studies, summary.json, and pages beside a run."""
SETTINGS: Final = MIB
"""config.yaml and environment.json."""
MOST_VALUES: Final = 10_000
"""Of a configuration: aliases make a few lines of YAML into billions of values."""


def left_out(most: int, *paths: Path) -> str:
    """Why these files are not read: more than `most` bytes together, or one is no file. "" if they are.

    A file that cannot be asked is left to whoever reads it.
    """
    total = 0
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            return f"{path.name} is no regular file and is left out"
        total += status.st_size
    if total <= most:
        return ""
    names = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
    return f"{names}: {total / MIB:,.1f} MiB, left out since more than {most // MIB} MiB are not read"


def too_many_values(values: Mapping[Any, Any] | Sequence[Any]) -> bool:
    """Whether nested values are more than MOST_VALUES, counted as often as they would be printed."""
    return any(number >= MOST_VALUES for number, _ in enumerate(_walk(values)))


def _walk(values: Any) -> Iterator[object]:
    waiting = [values]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | tuple | set):
            waiting += one
