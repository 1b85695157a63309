"""From the closing of the window to a report: on stderr, and in the files asked for."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from fastpipe.profiling.observe.advice import Lift, describe_lift, judge
from fastpipe.profiling.observe.ending import Ending
from fastpipe.profiling.observe.ranks import RankWait, meeting_of, wait_of
from fastpipe.profiling.observe.records import ProcessLog, read_folder
from fastpipe.profiling.observe.report import Observation, render, to_dict, write_text
from fastpipe.profiling.observe.summary import LoaderSummary, summarise
from fastpipe.profiling.observe.trace import trace_events
from fastpipe.profiling.observe.waits import Observer, Stopped

__all__ = ["Session"]

_LOST = 0.3  # of the cost: less is the jitter of a quiet machine
_NARROWEST = 118  # the table of loaders; a pipe counts as 80 columns


class Session:
    """One observed run. An error while reporting is printed and never reaches the script."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.rank = int(rank) if (rank := os.environ.get("RANK", "")).isdigit() else None
        self._running = True
        self._ending = Ending()

    def observe(self, observer: Observer) -> None:
        """Report what `observer` saw when it closes; then end the script if that was asked for."""
        self._observer = observer
        observer.on_close = self._report

    def ended(self, status: int) -> None:
        """The script is over: from now on nothing is left to stop."""
        self._running = False
        self._ending.over(status)

    def _report(self) -> None:
        try:
            self._say_all()
        except Exception:
            sys.stderr.write(
                "fastpipe-profile: error: no report could be made, the script is not touched by it:\n"
            )
            traceback.print_exc()
        if self.args.stop and self._running:
            self._stop()
        elif self._running and not self.rank:
            sys.stderr.write("fastpipe-profile: the hooks are out, the script goes on\n")

    def _stop(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._ending.watch()
            raise Stopped
        # It would end the thread that reads the loader, and leave the main one waiting for it.
        sys.stderr.write(
            "fastpipe-profile: --stop has no effect: the script reads its loader in a thread; it goes on\n"
        )

    def _say_all(self) -> None:
        observer = self._observer
        end = observer.closed_at or time.perf_counter_ns()
        logs = read_folder(self.folder)
        summary = summarise(
            observer.waits,
            observer.loaders,
            logs,
            warmup=self.args.warmup,
            end=end,
            pins=observer.pins,
        )
        main = summary.main
        ranks, late = self._ranks(main)
        lift, notes = (None, []) if main is None else _lift(main)
        seen = Observation(
            script=self.args.script,
            rank=self.rank,
            summary=summary,
            verdict=None if main is None else judge(main, lift),
            lift=lift,
            memory=tuple(observer.memory),
            shm_peak=observer.shm_peak,
            ranks=ranks,
            notes=(*notes, *late, *_notes(observer, main, self.args.steps, summary.steps)),
        )
        if not self.rank:
            self._render(seen)
        self._write(seen, logs, end)

    def _ranks(self, main: LoaderSummary | None) -> tuple[tuple[RankWait, ...], list[str]]:
        """What the ranks of this machine wait, where this is rank 0 of several."""
        meeting = meeting_of(self.rank)
        if meeting is None or self.rank is None:
            return (), []
        try:
            meeting.bring(None if main is None else wait_of(self.rank, main))
        except OSError as error:
            return (), [f"the ranks' waits are not compared: {error}"]
        if self.rank != 0:
            return (), []
        found, missing = meeting.meet()
        meeting.leave()
        return found, [f"{missing} ranks of this machine had no report in time"] if missing else []

    def _render(self, seen: Observation) -> None:
        sys.stdout.flush()
        console = Console(stderr=True, soft_wrap=False)
        if console.width < _NARROWEST and not console.is_terminal:
            console = Console(stderr=True, width=_NARROWEST)
        render(seen, console)

    def _write(self, seen: Observation, logs: list[ProcessLog], end: int) -> None:
        observer = self._observer
        first = (
            observer.waits[min(self.args.warmup, len(observer.waits) - 1)].start if observer.waits else end
        )
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "json": lambda: to_dict(seen),
            "trace": lambda: trace_events(
                observer.waits, logs, main_pid=observer.pid, begin=first, end=end, rank=self.rank
            ),
        }
        for option, make in makers.items():
            path = getattr(self.args, option)
            if path is None:
                continue
            target = Path(path if self.rank is None else f"{path}.rank{self.rank}")
            try:
                write_text(target, make())
            except OSError as error:
                sys.stderr.write(
                    f"fastpipe-profile: error: {target} could not be written ({error.strerror})\n"
                )


def _lift(main: LoaderSummary) -> tuple[Lift | None, list[str]]:
    """fastpipe's plan for the loader; a data set it cannot even look at is a note, not an error."""
    try:
        return describe_lift(main), []
    except Exception as error:  # the data set and its transforms are the script's own code
        return None, [f"fastpipe's plan could not be made: {type(error).__name__}: {error}"]


def _notes(observer: Observer, main: LoaderSummary | None, wanted: int, steps: int) -> list[str]:
    notes = []
    if main is None:
        made = "made but never asked for a batch" if observer.loaders else "not used in this process"
        notes.append(
            f"a torch.utils.data.DataLoader was {made}, so there is nothing to report. Not seen are loaders "
            "in processes that the script starts itself (mp.spawn: use torchrun), and batches that "
            "fastpipe.DataLoader, FFCV or DALI make without torch's"
        )
        return notes
    if steps < wanted:
        notes.append(f"the script ended after {steps} of {wanted} steps (--steps, --warmup)")
    if main.batches_timed == 0:
        notes.append("no batch was timed where it was made: its stages are unknown")
    elif main.batches_timed < 0.5 * main.steps:
        notes.append(
            f"{main.batches_timed} batches were timed inside: hooks may cost 1.2 %, and more would cost more"
        )
    lost = sum(stage.wall_ms for stage in main.stages) - sum(stage.cost_ms for stage in main.stages)
    if lost > _LOST * main.cost_ms:
        notes.append(
            f"an image took {lost:.2f} ms more than its stages cost: other programs had the CPU, or some "
            "calls waited where most did not, as for cold files"
        )
    if main.facts.num_workers == 0:
        notes.append("num_workers=0: batches are made between the steps, by the script's own process")
    if main.workers_torn:
        notes.append(f"{main.workers_torn} workers ended in the middle of a record: killed, or out of memory")
    return notes
