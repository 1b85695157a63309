"""From the closing of the window to a report: on stderr, and in the files asked for."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastpipe.profiling.commands.terminal import report_console
from fastpipe.profiling.observe.advice import Lift, describe_lift, judge
from fastpipe.profiling.observe.ending import Ending
from fastpipe.profiling.observe.ranks import RankWait, meeting_of, wait_of
from fastpipe.profiling.observe.records import ProcessLog, read_folder
from fastpipe.profiling.observe.report import Finding, Observation, render, to_dict, write_text
from fastpipe.profiling.observe.sites import names_of, target_of
from fastpipe.profiling.observe.summary import LoaderSummary, Summary, summarise
from fastpipe.profiling.observe.trace import trace_events
from fastpipe.profiling.observe.waits import Observer, Stopped

_LOST = 0.3  # of the cost: less is the jitter of a quiet machine
_NARROWEST = 110  # for the sentences; a pipe counts as 80 columns, unless COLUMNS says what it has


class Session:
    """One observed run. Errors in reporting are printed and never reach the script."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.rank = int(rank) if (rank := os.environ.get("RANK", "")).isdigit() else None
        self.home = os.getcwd()  # of the script; loaders are named from there
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
            try:
                self._say_all()
            except RuntimeError as error:
                # torch's handler of SIGCHLD raises wherever the main thread is, once for a dead worker. The
                # script's loader finds out by itself at its next batch.
                if "DataLoader worker" not in str(error):
                    raise
                self._say_all()
        except Exception:
            sys.stderr.write("fastpipe-profile: error: the report failed; the script is not affected:\n")
            traceback.print_exc()
        if self.args.stop and self._running:
            self._stop()
        elif self._running and not self.rank:
            sys.stderr.write("fastpipe-profile: the hooks are removed and the script continues\n")

    def _stop(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._ending.watch()
            raise Stopped
        # It would end the thread that reads the loader, and the main thread would wait for that one.
        sys.stderr.write(
            "fastpipe-profile: --stop has no effect: the script reads its loader in a thread and continues\n"
        )

    def _say_all(self) -> None:
        observer = self._observer
        end = observer.closed_at or time.perf_counter_ns()
        logs = read_folder(self.folder)
        self._name(observer)
        summary = summarise(
            observer.waits,
            observer.loaders,
            logs,
            warmup=self.args.warmup,
            end=end,
            pins=observer.pins,
            device=observer.device,
        )
        ranks, late = self._ranks(summary.main)
        findings, notes = [], []
        for loader in summary.loaders:
            lift, why = _lift(loader)
            findings.append(Finding(loader=loader, verdict=judge(loader, lift), lift=lift))
            notes += why
        seen = Observation(
            script=self.args.script,
            rank=self.rank,
            summary=summary,
            findings=tuple(findings),
            memory=tuple(observer.memory),
            shm_peak=observer.shm_peak,
            ranks=ranks,
            notes=(*notes, *late, *_notes(observer, summary, self.args.steps)),
        )
        self._write(seen, logs, end)
        if not self.rank:
            self._render(seen)

    def _name(self, observer: Observer) -> None:
        loaders = list(observer.loaders.values())
        for facts, name in zip(loaders, names_of([facts.sites for facts in loaders], self.home), strict=True):
            facts.name, facts.target = name, target_of(facts.sites)

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
        return found, [f"{missing} ranks of this machine did not report in time"] if missing else []

    def _render(self, seen: Observation) -> None:
        with contextlib.suppress(BrokenPipeError):  # the script's own output: it will hear of it itself
            sys.stdout.flush()
        render(seen, report_console(_NARROWEST, stderr=True))

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


def _lift(loader: LoaderSummary) -> tuple[Lift | None, list[str]]:
    """fastpipe's plan for the loader; a data set it cannot even look at is a note, not an error."""
    try:
        return describe_lift(loader), []
    except Exception as error:  # the data set and its transforms are the script's own code
        text = f"{loader.facts.name}: fastpipe's plan could not be made: {type(error).__name__}: {error}"
        return None, [text]


def _notes(observer: Observer, summary: Summary, wanted: int) -> list[str]:
    if not summary.loaders:
        made = "made but never asked for a batch" if observer.loaders else "not used in this process"
        return [
            f"a DataLoader of torch or fastpipe was {made}, so there is nothing to report. Not visible are "
            "loaders in processes that the script starts itself (mp.spawn: use torchrun), and batches "
            "made by ffcv.Loader or a DALI pipeline directly"
        ]
    notes = []
    if summary.steps < wanted:
        notes.append(f"the script ended after {summary.steps} of {wanted} steps (--steps, --warmup)")
    seen = {loader.facts.number for loader in summary.loaders}
    notes += [
        f"{facts.name} gave no batch after the warm-up, so it has no figures (--steps, --warmup)"
        for number, facts in observer.loaders.items()
        if number not in seen
    ]
    if all(loader.role[0] != "training" for loader in summary.loaders):
        notes.append("no loader was seen feeding the training; more --warmup or --steps may reach one")
    for loader in summary.loaders:
        notes += [f"{loader.facts.name}: {note}" for note in _notes_of(loader)]
    return notes


def _notes_of(loader: LoaderSummary) -> list[str]:
    notes = []
    if loader.batches_timed == 0:
        notes.append("no batch was timed in the process that made it, so its stages are unknown")
    elif loader.batches_timed < 0.5 * loader.steps:
        notes.append(
            f"only {loader.batches_timed} batches were timed stage by stage: the hooks may take 1.2 % of the "
            "time, and timing more batches would take more"
        )
    lost = sum(stage.wall_ms for stage in loader.stages) - sum(stage.cost_ms for stage in loader.stages)
    if lost > _LOST * loader.cost_ms:
        notes.append(
            f"an image took {lost:.2f} ms more than its stages cost: other programs used the CPU, or a few "
            "calls had to wait, as for cold files"
        )
    if loader.facts.num_workers == 0:
        notes.append("num_workers=0: the script's own process makes the batches between its steps")
    if loader.workers_torn:
        notes.append(
            f"{loader.workers_torn} workers ended in the middle of a record: killed, or out of memory"
        )
    return notes
