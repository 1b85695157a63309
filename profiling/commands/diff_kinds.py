"""The reports of every command, in the one form that `fastpipe-profile diff` compares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

Report = dict[str, Any]

PROFILE: Final = "a profile"
RUN: Final = "a report of run"
PRICES: Final = "a price list of compare"
HOST: Final = "a host card"


def kind_of(report: Report) -> str | None:
    """Which command wrote it; None for anything else."""
    schema = report.get("schema")
    if schema == "fastpipe-profile-run" and isinstance(report.get("loaders"), list):
        return RUN
    if isinstance(report.get("stages"), list):
        return PROFILE
    if isinstance(report.get("prices"), list):
        return PRICES
    return HOST if isinstance(report.get("cpu"), dict) and "software" in report else None


def in_common_form(report: Report) -> Report:
    """host, data, workload, stages, together and verdict; a command may lack some of them."""
    kind = kind_of(report)
    return report if kind is None else {**report, **KINDS[kind](report)}


def _as_it_is(report: Report) -> Report:
    return {}


def _of_run(report: Report) -> Report:
    """Loaders in the order in which the script made them; the lines change when a script is edited."""
    loaders = [row for row in report["loaders"] if isinstance(row, dict)]
    shown = ("name", "role", "kind", "backend", "batch_size", "num_workers", "start_method")
    return {
        "workload": {
            "script": report.get("script"),
            "rank": report.get("rank"),
            **{_called(row): {key: row.get(key) for key in shown} for row in loaders},
        },
        "stages": [
            {
                "name": f"{_called(row)}: {stage.get('name')}",
                "images_per_s": _single(_inverse(stage.get("cost_ms_per_image"))),
                "cpu_ms_per_image": _single(stage.get("cpu_ms_per_image")),
            }
            for row in loaders
            for stage in row.get("stages") or []
            if isinstance(stage, dict)
        ],
        "together": [
            {
                "name": f"{_called(row)}, with the script",
                "images_per_s": row.get("images_per_s_interval") or _single(row.get("images_per_s")),
            }
            for row in loaders
        ],
        "verdict": {"bottleneck": _limit(report.get("verdict"))},
    }


def _called(loader: Report) -> str:
    return f"loader {loader.get('number')}"


def _limit(verdict: Any) -> Any:
    """The name that a profile would give to the bottleneck."""
    if not isinstance(verdict, dict):
        return None
    return verdict.get("stage") if verdict.get("waiting") else "the rest of the step"


def _of_prices(report: Report) -> Report:
    rows = [row for row in report["prices"] if isinstance(row, dict)]
    return {
        "workload": {"resolution": report.get("resolution")},
        "stages": [
            {
                "name": f"{row.get('step')}, {row.get('by')}",
                "images_per_s": _inverse_spread(row.get("cpu_ms_per_image")),
                "cpu_ms_per_image": row.get("cpu_ms_per_image"),
            }
            for row in rows
        ],
    }


def _of_host(report: Report) -> Report:
    left_out = ("schema_version", "created", "notes")
    return {"host": {key: value for key, value in report.items() if key not in left_out}}


KINDS: Final[dict[str, Callable[[Report], Report]]] = {
    PROFILE: _as_it_is,
    RUN: _of_run,
    PRICES: _of_prices,
    HOST: _of_host,
}


def _single(value: Any) -> dict[str, Any] | None:
    """A figure without a spread."""
    return None if value is None else {"median": value, "low": value, "high": value}


def _inverse(ms: Any) -> float | None:
    """Images per second, from the ms that one image takes."""
    usable = isinstance(ms, int | float) and math.isfinite(ms) and ms > 0
    return 1000.0 / ms if usable else None


def _inverse_spread(ms: Any) -> dict[str, float | None] | None:
    if not isinstance(ms, dict):
        return None
    median, low, high = (_inverse(ms.get(name)) for name in ("median", "high", "low"))
    return {"median": median, "low": low, "high": high}
