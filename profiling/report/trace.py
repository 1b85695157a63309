"""A timeline as trace events, which ui.perfetto.dev and chrome://tracing open.

Format: "Trace Event Format" (Google), JSON object form: complete events "X" with ts and dur in microseconds,
and metadata "M" that names the rows. Spans of one row are nested or apart, as the format requires.
"""

from __future__ import annotations

from typing import Any

_PROCESS = 1


def trace_events(timeline: dict[str, Any]) -> dict[str, Any]:
    """The trace of a timeline as `fastpipe.profiling.measure.timeline.record` returns it. ts begins at 0."""
    spans = timeline["spans"]
    origin_s = min((span["start_s"] for span in spans), default=0.0)
    events = [label("process_name", _PROCESS, 0, "fastpipe-profile: loader and model")]
    for row, name in enumerate(timeline["rows"]):
        events += [
            label("thread_name", _PROCESS, row, name),
            {**label("thread_sort_index", _PROCESS, row, ""), "args": {"sort_index": row}},
        ]
    # If two spans start together, the longer one encloses the other and comes first.
    ordered = sorted(spans, key=lambda span: (span["start_s"], -span["end_s"]))
    events += [_span(span, origin_s, timeline["batch_size"]) for span in ordered]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _span(span: dict[str, Any], origin_s: float, images: int) -> dict[str, Any]:
    start = _microseconds(span["start_s"] - origin_s)
    # From the rounded ends, so that a span never reaches out of the one around it.
    dur = round(_microseconds(span["end_s"] - origin_s) - start, 3)
    args = {"batch": span["batch"], "images": images}
    return complete(span["name"], span["kind"], start, dur, _PROCESS, span["row"], args)


def complete(
    name: str, category: str, ts: float, dur: float, pid: int, tid: int, args: dict[str, Any]
) -> dict[str, Any]:
    """A span from `ts` on for `dur` microseconds, in row `tid` of process `pid`."""
    span = {"name": name, "cat": category, "ph": "X", "ts": ts, "dur": dur}
    return {**span, "pid": pid, "tid": tid, "args": args}


def label(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    """The name of a process ("process_name") or of a row ("thread_name")."""
    return {"name": kind, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": {"name": name}}


def _microseconds(seconds: float) -> float:
    return round(max(0.0, seconds) * 1e6, 3)
