"""A timeline as trace events, which ui.perfetto.dev and chrome://tracing open.

Format: "Trace Event Format" (Google), JSON object form: complete events "X" with ts and dur in microseconds,
and metadata "M" that names the rows. Spans of one row are nested or apart, which the format asks for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["trace_events"]

_PROCESS = 1


def trace_events(timeline: dict[str, Any]) -> dict[str, Any]:
    """The trace of a timeline as `fastpipe.profiling.timeline.record` returns it. ts begins at 0."""
    spans = timeline["spans"]
    origin_s = min((span["start_s"] for span in spans), default=0.0)
    events = [_label("process_name", 0, "fastpipe-profile: loader and model")]
    for row, name in enumerate(timeline["rows"]):
        events += [
            _label("thread_name", row, name),
            {**_label("thread_sort_index", row, ""), "args": {"sort_index": row}},
        ]
    # Of two spans that start together the longer encloses the other and comes first.
    ordered = sorted(spans, key=lambda span: (span["start_s"], -span["end_s"]))
    events += [_complete(span, origin_s, timeline["batch_size"]) for span in ordered]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _complete(span: dict[str, Any], origin_s: float, images: int) -> dict[str, Any]:
    start = _microseconds(span["start_s"] - origin_s)
    return {
        "name": span["name"],
        "cat": span["kind"],
        "ph": "X",
        "ts": start,
        # From the rounded ends, so that a span never reaches out of the one around it.
        "dur": round(_microseconds(span["end_s"] - origin_s) - start, 3),
        "pid": _PROCESS,
        "tid": span["row"],
        "args": {"batch": span["batch"], "images": images},
    }


def _label(kind: str, row: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "ts": 0, "pid": _PROCESS, "tid": row, "args": {"name": name}}


def _microseconds(seconds: float) -> float:
    return round(max(0.0, seconds) * 1e6, 3)
