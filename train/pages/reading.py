"""A run folder as it is found: perhaps half written, torn, or of another version. What is wrong is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.config.group_files import load_yaml
from fastpipe.train.output.environment import ENVIRONMENT
from fastpipe.train.output.folder import CHECKPOINT, METRICS
from fastpipe.train.seeds import RESULTS

CONFIG, SUMMARY = "config.yaml", "summary.json"
Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The contents of a run folder. `summary` is empty in a run that has not finished.

    config is nested, as in the file; epochs and steps are the lines of metrics.jsonl, each number once (the
    last), in order; problems are sentences.
    """

    folder: Path
    config: Values
    epochs: tuple[Values, ...]
    steps: tuple[Values, ...]
    summary: Values
    environment: Values
    problems: tuple[str, ...]

    @property
    def checkpoint(self) -> Path:
        """Where the last checkpoint is, if there is one."""
        return self.folder / CHECKPOINT


def read_run(folder: Path) -> RunFiles:
    """The files of a run. Raises ArgumentError for a folder that holds none of them."""
    if not any((folder / name).is_file() for name in (CONFIG, METRICS, SUMMARY)):
        raise ArgumentError(
            f"--report must name a run folder, or the folder of a run with --seeds. Found: {str(folder)!r}, "
            f"which holds none of {CONFIG}, {METRICS}, {SUMMARY} and {RESULTS}"
        )
    problems: list[str] = []
    epochs, steps = _lines(folder / METRICS, problems)
    return RunFiles(
        folder=folder,
        config=_config(folder / CONFIG, problems),
        epochs=epochs,
        steps=steps,
        summary=_values(folder / SUMMARY, problems),
        environment=_values(folder / ENVIRONMENT, problems),
        problems=tuple(problems),
    )


def read_seeds(folder: Path) -> Values | None:
    """What seeds.json holds; None for a single run."""
    return _values(folder / RESULTS, []) or None


def _config(path: Path, problems: list[str]) -> Values:
    try:
        values = load_yaml(path.read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError, ArgumentError) as error:
        problems.append(f"{path.name} cannot be read, so the settings are not known: {error}")
        return {}
    return values if isinstance(values, Mapping) else {}


def _values(path: Path, problems: list[str]) -> Values:
    """The object in a JSON file; empty without the file, and with a problem for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
    if isinstance(values, Mapping):
        return values
    problems.append(f"{path.name} holds no object")
    return {}


def _lines(path: Path, problems: list[str]) -> tuple[tuple[Values, ...], tuple[Values, ...]]:
    """The lines of epochs and of steps. A torn last line is that of a run that was killed: no problem."""
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        problems.append(f"{path.name} cannot be read, so there are no curves: {error.strerror}")
        return (), ()
    found: dict[str, dict[int, Values]] = {"epoch": {}, "step": {}}
    bad = 0
    for place, text in enumerate(texts):
        entry = _entry(text)
        if entry is not None:
            found[entry["kind"]][entry[entry["kind"]]] = entry
        elif text and place < len(texts) - 1:
            bad += 1
    if bad:
        problems.append(f"{path.name}: {bad} damaged lines were left out")
    epochs, steps = (tuple(lines[key] for key in sorted(lines)) for lines in found.values())
    return epochs, steps


def _entry(text: str) -> Values | None:
    """A line, if it is of an epoch or of a step and says of which."""
    try:
        entry = json.loads(text)
        known = entry["kind"] in ("epoch", "step") and isinstance(entry[entry["kind"]], int)
    except (ValueError, KeyError, TypeError):
        return None
    return entry if known else None
