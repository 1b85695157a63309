"""The observed steps as trace events, which Perfetto and chrome://tracing open.

Format: "Trace Event Format", Google, JSON object form; complete events ("X"), times in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastpipe.profiling.observe.advice import title
from fastpipe.profiling.observe.records import ProcessLog
from fastpipe.profiling.observe.steps import Wait
from fastpipe.profiling.report.trace import complete, label

_MAIN, _MAKING, _PACKING = 0, 1, 2
_THREADS = 100  # and more: threads of the script's process


def trace_events(
    waits: Sequence[Wait],
    logs: Sequence[ProcessLog],
    *,
    main_pid: int,
    begin: int,
    end: int,
    rank: int | None = None,
) -> dict[str, Any]:
    """One row of waits and work for the main process, one for each thread of it that makes batches, two for
    each worker: making batches, packing them.

    Only what starts within begin..end (ns) is drawn; time 0 is begin.
    """
    at = _Clock(begin, end)
    name = "main process" if rank is None else f"main process, rank {rank}"
    events = [label("process_name", main_pid, 0, name), label("thread_name", main_pid, _MAIN, "steps")]
    for wait in waits:
        args = {"loader": wait.loader, "epoch": wait.epoch}
        events += at.event(
            f"wait for loader {wait.loader}", main_pid, _MAIN, wait.start, wait.end - wait.start, args
        )
        work = (wait.next_start or end) - wait.end
        events += at.event("rest of the step", main_pid, _MAIN, wait.end, work, args)
    for log in logs:
        making = _MAKING
        if log.worker >= 0 and log.pid == main_pid:
            making = _THREADS + log.worker
            events.append(label("thread_name", log.pid, making, f"thread {log.worker}, making batches"))
        elif log.worker >= 0:
            who = f"loader {log.loader}, worker {log.worker}"
            events.append(label("process_name", log.pid, 0, who))
            events.append(label("thread_name", log.pid, _PACKING, "packing"))
        if making == _MAKING:
            events.append(label("thread_name", log.pid, _MAKING, "making batches"))
        for span in log.spans:
            events += at.event(title(span.name), log.pid, making, span.start, span.wall, {})
        for pickle in log.pickles:
            events += at.event("pickle", log.pid, _PACKING, pickle.start, pickle.wall, {})
    return {"traceEvents": events, "displayTimeUnit": "ms"}


class _Clock:
    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    def event(
        self, name: str, pid: int, tid: int, start: int, wall: int, args: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if not self.begin <= start <= self.end:
            return []
        when, length = (start - self.begin) / 1000, wall / 1000
        return [complete(name, "data", when, length, pid, tid, args)]
