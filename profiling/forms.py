"""The report's other forms: the page and the trace, with what they need beyond the stages' figures."""

from __future__ import annotations

from typing import Any

from fastpipe.profiling.card import quick_card
from fastpipe.profiling.files_out import write_text, write_values
from fastpipe.profiling.page import page
from fastpipe.profiling.timeline import capture
from fastpipe.profiling.trace import trace_events
from fastpipe.profiling.workload import Workload

__all__ = ["with_timeline", "write_forms"]


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
        write_text("html", html, page(report))
    if trace is not None:
        write_values("trace", trace, trace_events(report["timeline"]))
