"""`fastpipe-profile diff A.json B.json`: what changed between two reports, beyond their noise."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fastpipe.errors import ArgumentError, DataError
from fastpipe.profiling.commands.diff_kinds import in_common_form, kind_of
from fastpipe.profiling.commands.terminal import Outcome, print_table

SCHEMA_VERSION = 1
"""Of the comparison that `--json` writes."""

_LARGEST = 64 << 20
_CONTEXT = ("host", "data", "workload")
_BUSY = "Other processes used"


def run(args: argparse.Namespace) -> Outcome:
    """Compare the two reports."""
    found = compare_reports(load_report(args.before), load_report(args.after))
    return Outcome(values=found, show=lambda console: render_diff(found, console))


def load_report(path: str) -> dict[str, Any]:
    """A report of `fastpipe-profile --json`. DataError names the file and what is wrong with it."""
    try:
        if Path(path).stat().st_size > _LARGEST:
            raise DataError(
                f"{path!r} is larger than {_LARGEST >> 20} MiB, and no report of fastpipe-profile is"
            )
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"cannot read the report {path!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path!r} is not JSON: {error}") from error
    if not isinstance(found, dict) or _major(found) is None or kind_of(found) is None:
        raise DataError(
            f"{path!r} is not a report of fastpipe-profile: it needs a schema_version, and stages, loaders "
            "or prices. Write one with --json FILE, with fastpipe-profile DATA, run, compare or host"
        )
    return found


def _major(report: dict[str, Any]) -> int | None:
    """The schema's major version, of 1, "1" or "1.4"; None for anything else."""
    first = str(report.get("schema_version")).partition(".")[0]
    return int(first) if first.isdigit() else None


def compare_reports(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The comparison as plain values.

    differences: [name, before, after] of host, data and workload. stages: each with both rates, the ratio
    (after / before) and "changed", "within noise", "not repeated" (no spread is known), "only before" or
    "only after". DataError for reports of different commands or different major versions.
    """
    kinds = kind_of(before), kind_of(after)
    if kinds[0] != kinds[1]:
        raise DataError(
            f"the reports are {kinds[0]} and {kinds[1]}, which have no figures in common. "
            "Give two reports of the same command"
        )
    versions = _major(before), _major(after)
    if versions[0] != versions[1]:
        raise DataError(
            f"the reports have schema versions {versions[0]} and {versions[1]}, whose fields mean different "
            "things. Write both with the same version of fastpipe"
        )
    before, after = in_common_form(before), in_common_form(after)
    return {
        "schema": "fastpipe-diff",
        "schema_version": SCHEMA_VERSION,
        "created": [before.get("created"), after.get("created")],
        "differences": [
            list(found)
            for name in _CONTEXT
            for found in _differences(name, before.get(name), after.get(name))
        ],
        "bottleneck": [_bottleneck(before), _bottleneck(after)],
        "warnings": [*_doubts("A", before), *_doubts("B", after)],
        "stages": _stages(before, after, "stages"),
        "together": _stages(before, after, "together"),
    }


def _doubts(which: str, report: dict[str, Any]) -> list[str]:
    """The report's own warning about its rates: the machine was busy with other programs."""
    notes = report.get("notes")
    listed = [str(note) for note in notes] if isinstance(notes, list) else []
    return [f"{which}: {note}" for note in listed if note.startswith(_BUSY)]


def _bottleneck(report: dict[str, Any]) -> Any:
    verdict = report.get("verdict")
    return verdict.get("bottleneck") if isinstance(verdict, dict) else None


def _differences(name: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            yield from _differences(f"{name}.{key}", before.get(key), after.get(key))
    elif before != after:
        yield name, before, after


def _stages(before: dict[str, Any], after: dict[str, Any], section: str) -> list[dict[str, Any]]:
    first, second = _by_name(before, section), _by_name(after, section)
    return [_row(name, first.get(name), second.get(name)) for name in dict.fromkeys((*first, *second))]


def _by_name(report: dict[str, Any], section: str) -> dict[str, dict[str, Any]]:
    found = report.get(section)
    rows = found if isinstance(found, list) else []
    named = {str(row["name"]): row for row in rows if isinstance(row, dict) and "name" in row}
    return {name: row for name, row in named.items() if _spread(row, "images_per_s") is not None}


def _spread(row: dict[str, Any] | None, key: str) -> dict[str, float] | None:
    """{median, low, high} of a stage, if all of them are numbers."""
    found = row.get(key) if row is not None else None
    if not isinstance(found, dict):
        return None
    values = [found.get(name) for name in ("median", "low", "high")]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return {name: float(found[name]) for name in ("median", "low", "high")}


def _rates(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """Means with 95 % intervals if both reports have them, medians with quartiles otherwise."""
    wide = _spread(before, "images_per_s_interval"), _spread(after, "images_per_s_interval")
    return (_spread(before, "images_per_s"), _spread(after, "images_per_s")) if None in wide else wide


def _row(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
    rates = _rates(before, after)
    costs = _spread(before, "cpu_ms_per_image"), _spread(after, "cpu_ms_per_image")
    return {
        "name": name,
        "images_per_s": list(rates),
        "ratio": _ratio(*rates),
        "verdict": _verdict(*rates),
        "cpu_ms_per_image": list(costs),
        "cpu_ratio": _ratio(*costs),
    }


def _ratio(before: dict[str, float] | None, after: dict[str, float] | None) -> float | None:
    if before is None or after is None or before["median"] <= 0:
        return None
    return after["median"] / before["median"]


def _verdict(before: dict[str, float] | None, after: dict[str, float] | None) -> str:
    if before is None:
        return "only after"
    if after is None:
        return "only before"
    if all(spread["low"] == spread["high"] for spread in (before, after)):
        return "not repeated"
    overlap = before["low"] <= after["high"] and after["low"] <= before["high"]
    return "within noise" if overlap else "changed"


def render_diff(found: dict[str, Any], console: Console) -> None:
    """Print the differences of the context, then the stages."""
    context = found["differences"]
    for name, before, after in context:
        console.print(f"{name}: {_value(before)} -> {_value(after)}", markup=False, highlight=False)
    if not context:
        console.print("host, versions, data and workload are the same", markup=False, highlight=False)
    before, after = found["bottleneck"]
    same = "still" if before == after else f"was {before}, now"
    if (before, after) != (None, None):
        console.print(f"bottleneck: {same} {after}", markup=False, highlight=False)
    if found["stages"] or found["together"]:
        print_table(console, _table(found))
    for warning in found["warnings"]:
        console.print(f"note: {warning}", markup=False, highlight=False)


def _table(found: dict[str, Any]) -> Table:
    table = Table(title_justify="left")
    table.add_column("stage", overflow="fold")
    for name in ("A images/s", "B images/s", "B / A", "CPU B / A"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for section in ("stages", "together"):
        for row in found[section]:
            ratios = ["" if value is None else f"{value:.2f}" for value in (row["ratio"], row["cpu_ratio"])]
            rates = [_interval(spread) for spread in row["images_per_s"]]
            table.add_row(row["name"], *rates, *ratios, row["verdict"])
        table.add_section()
    return table


def _interval(spread: dict[str, float] | None) -> str:
    if spread is None:
        return "-"
    if spread["low"] == spread["high"]:
        return _number(spread["median"])
    return f"{_number(spread['median'])} ({_number(spread['low'])}-{_number(spread['high'])})"


def _number(rate: float) -> str:
    if rate >= 10_000:
        return f"{rate / 1000:.1f}k"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _value(value: Any) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
