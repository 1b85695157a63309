"""The files of a run folder of fastpipe-train; what cannot be read becomes a sentence in `problems`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastpipe.errors import MissingExtraError
from fastpipe.explore.limits import FILES, LOGS, MOST_VALUES, SETTINGS, left_out, too_many_values

METRICS, SUMMARY, CONFIG = "metrics.jsonl", "summary.json", "config.yaml"
ENVIRONMENT = "environment.json"
# Pages that the reader put beside a run: fastpipe-profile's --html, and the trainer's report.
PAGES = ("report.html", "profile.html")
_EPOCH = re.compile(r'\{"kind": ?"epoch"')
_NO_SETTINGS = "no config.yaml that can be read, so neither recipe nor methods are known"


def settings_in(folder: Path, problems: list[str]) -> Mapping[str, Any]:
    """The keys of config.yaml, not yet dotted; empty, with a problem, where it cannot be read."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "explore", "Reading the configuration of a run") from error
    if reason := left_out(SETTINGS, folder / CONFIG):
        problems.append(reason)
        return {}
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        values = yaml.load((folder / CONFIG).read_text(encoding="utf-8"), Loader=loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        values = None
    if isinstance(values, Mapping) and too_many_values(values):
        problems.append(f"{CONFIG} has more than {MOST_VALUES:,} values and is left out")
        return {}
    if isinstance(values, Mapping):
        return {str(key): value for key, value in values.items()}
    problems.append(_NO_SETTINGS)
    return {}


def object_in(path: Path, problems: list[str], most: int = FILES) -> Mapping[str, Any]:
    """The object in a JSON file; empty without the file, or with a problem."""
    if reason := left_out(most, path):
        problems.append(reason)
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if isinstance(values, Mapping):
        return values
    problems.append(f"{path.name} is not complete; the run counts as unfinished")
    return {}


def epochs_in(folder: Path, problems: list[str]) -> list[Mapping[str, Any]]:
    """The last line of each epoch of metrics.jsonl, in order. A torn last line is left out silently."""
    if reason := left_out(LOGS, folder / METRICS):
        problems.append(f"{reason}: no curve")
        return []
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        problems.append("metrics.jsonl cannot be read: no curve")
        return []
    found: dict[int, Mapping[str, Any]] = {}
    bad = 0
    for place, line in enumerate(lines):
        if not _EPOCH.match(line):  # the lines of steps are many
            continue
        entry = _entry(line)
        if entry is not None:
            found[entry["epoch"]] = entry
        elif place < len(lines) - 1:
            bad += 1
    if bad:
        problems.append(f"metrics.jsonl: {bad} damaged lines were left out")
    return [found[epoch] for epoch in sorted(found)]


def _entry(line: str) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and entry.get("kind") == "epoch" and isinstance(entry.get("epoch"), int)
    return entry if whole else None
