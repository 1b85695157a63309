"""Writing a report: its JSON, its page and its trace, each in one move."""

from __future__ import annotations

import json
from typing import Any

from fastpipe.profiling.host import quick_card
from fastpipe.profiling.measure.timeline import capture
from fastpipe.profiling.measure.workload import Workload
from fastpipe.profiling.report.page import page
from fastpipe.profiling.report.trace import trace_events
from fastpipe.system.outputs import write_text


def write_values(option: str, path: str, values: dict[str, Any]) -> None:
    """Write plain values as JSON, in one move."""
    write_text(option, path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def with_timeline(report: dict[str, Any], workload: Workload) -> dict[str, Any]:
    """The report with `timeline` (recorded now, some seconds) and `host_card` (looked up, not measured)."""
    batch_size = report["workload"]["timed_batch_sizes"]["model"]
    return {
        **report,
        "timeline": capture(workload, batch_size),
        "host_card": quick_card(report["data"].get("root")),
    }


def write_forms(report: dict[str, Any], *, html: str | None, trace: str | None) -> None:
    """Write the page and the trace that were asked for, each in one move."""
    if html is not None:
        write_text("--html", html, page(report))
    if trace is not None:
        write_values("--trace", trace, trace_events(report["timeline"]))
