"""Who worked when: planted costs appear in the right row, and the trace is one that Perfetto opens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastpipe.device import DeviceStage
from fastpipe.profiling.measure.inputs import Inputs, fetch
from fastpipe.profiling.measure.timeline import record
from fastpipe.profiling.measure.workload import transform_of
from fastpipe.profiling.report.trace import trace_events
from fastpipe.types import Plan

Burn = Callable[[float], None]
STEP_S = 0.03


def run(folder: Path, burn: Burn, workers: int, step_s: float = STEP_S) -> dict[str, Any]:
    plan: Plan = transform_of(32)[1]
    inputs: Inputs = fetch(str(folder), plan, seconds=5, quick=True)
    cpu = torch.device("cpu")
    stage = DeviceStage(plan, device=cpu, engine="fused", memory_format=torch.contiguous_format)
    stage.warm_up()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        assert images.shape == (4, 3, 32, 32) and labels.shape == (4,)
        burn(step_s)

    return record(inputs, plan, stage, step, batch_size=4, workers=workers, steps=6, seconds=120)


def of_kind(timeline: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [span for span in timeline["spans"] if span["kind"] == kind]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_span_is_in_its_row_and_steps_enclose_their_parts(
    folder: Path, burn: Burn, workers: int
) -> None:
    found = run(folder, burn, workers)
    expected = ["worker 0", "worker 1", "loader thread"] if workers else []
    assert found["rows"] == [*expected, "training loop"]
    assert len(of_kind(found, "step")) == len(of_kind(found, "compute")) == 6
    for step in of_kind(found, "step"):
        inside = [
            s for s in found["spans"] if s["kind"] in ("wait", "compute") and s["batch"] == step["batch"]
        ]
        assert len(inside) == 2
        assert all(step["start_s"] <= s["start_s"] <= s["end_s"] <= step["end_s"] for s in inside)
        compute = next(s for s in inside if s["kind"] == "compute")
        assert compute["end_s"] - compute["start_s"] >= STEP_S * 0.99  # CPU-seconds never exceed the wall's
    rows = {span["row"] for span in of_kind(found, "load")}
    assert rows and rows <= ({0, 1} if workers else {0})
    assert {span["row"] for span in of_kind(found, "transfer")} == ({2} if workers else {0})
    assert min(span["start_s"] for span in of_kind(found, "step")) == 0.0
    check_trace(trace_events(found), found)


def test_a_slow_data_set_shows_as_waiting(folder: Path, burn: Burn, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastpipe.batch import worker

    plain = worker.crop_and_resize

    def slow(*args: Any) -> Any:
        burn(0.01)
        return plain(*args)

    monkeypatch.setattr(worker, "crop_and_resize", slow)  # the workers are forked, so they inherit it
    found = run(folder, burn, 1, step_s=0.0)
    waiting = sum(span["end_s"] - span["start_s"] for span in of_kind(found, "wait"))
    assert waiting > 0.7 * found["seconds"]
    load = next(span for span in of_kind(found, "load") if span["start_s"] >= 0)
    assert load["end_s"] - load["start_s"] >= 0.99 * 4 * 0.01 or load["end_s"] == found["seconds"]


def check_trace(trace: dict[str, Any], timeline: dict[str, Any]) -> None:
    """The rules of the Trace Event Format that Perfetto's importer depends on."""
    trace = json.loads(json.dumps(trace, allow_nan=False))
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    events = trace["traceEvents"]
    for event in events:
        assert {"name", "ph", "ts", "pid", "tid"} <= set(event)
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert event["ph"] in ("X", "M") and event["ts"] >= 0
    named = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert [named[row] for row in sorted(named)] == timeline["rows"]
    spans = [event for event in events if event["ph"] == "X"]
    assert len(spans) == len(timeline["spans"])
    assert [event["ts"] for event in spans] == sorted(event["ts"] for event in spans)
    for row in named:
        check_nested([event for event in spans if event["tid"] == row])


def check_nested(spans: list[dict[str, Any]]) -> None:
    """Spans of a row lie within one another or apart, to a thousandth of a microsecond."""
    open_until: list[float] = []
    for event in spans:
        start, end = event["ts"], event["ts"] + event["dur"]
        assert event["dur"] >= 0
        while open_until and start >= open_until[-1] - 0.002:
            open_until.pop()
        assert not open_until or end <= open_until[-1] + 0.002, event
        open_until.append(end)


def test_the_trace_begins_at_zero_and_puts_the_enclosing_span_first() -> None:
    def span(name: str, start_s: float, end_s: float) -> dict[str, Any]:
        return {"row": 0, "name": name, "kind": "step", "batch": 1, "start_s": start_s, "end_s": end_s}

    timeline = {"rows": ["loop"], "batch_size": 4, "spans": [span("in", -0.5, 0.1), span("out", -0.5, 0.25)]}
    events = [event for event in trace_events(timeline)["traceEvents"] if event["ph"] == "X"]
    assert [(event["name"], event["ts"], event["dur"]) for event in events] == [
        ("out", 0.0, 750_000.0),
        ("in", 0.0, 600_000.0),
    ]


def test_an_empty_timeline_is_a_trace_of_names_only() -> None:
    found = trace_events({"rows": ["loop"], "batch_size": 4, "spans": []})
    assert {event["ph"] for event in found["traceEvents"]} == {"M"}
