"""The runs of a study, one after the other, shared with whoever works on the same folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError, FastpipeError
from fastpipe.system.stop_signals import asked, exit_status
from fastpipe.train.studies import lock
from fastpipe.train.studies.folder import claim, finished
from fastpipe.train.studies.scale import PlannedRun
from fastpipe.train.studies.twins import Twins

Execute = Callable[[PlannedRun, Path], int]
_STOPPED = (130, 143, 75)  # of session.start: Ctrl-C, SIGTERM, SIGUSR1


@dataclass(kw_only=True)
class Progress:
    """What one call of `work` did: names of runs, and the status of a signal that stopped it (0: none)."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    stopped: int = 0


def work(
    folder: Path,
    runs: Sequence[PlannedRun],
    execute: Execute,
    *,
    machine: Mapping[str, Any],
    say: Callable[[str], None],
    twins: Twins | None = None,
) -> Progress:
    """Do every run that is neither finished nor in other hands; a failed one does not stop the others.

    twins: where finished runs of the same settings are looked for first. Raises ArgumentError for a run
    folder of other settings.
    """
    progress = Progress()
    for number, run in enumerate(runs, start=1):
        with lock.held(folder / run.name) as mine:
            # Also asked by the holder: another machine may have finished it since.
            if finished(folder, run):
                lock.clear(folder / run.name)
                continue
            if not mine:
                progress.busy.append(run.name)
                say(f"{run.name}: {lock.holder(folder / run.name) or 'another process'} is at it")
                continue
            if twins is not None and (taken := twins.adopt(folder, run)):
                say(f"{run.name}: {taken} is the same run")
                progress.done.append(run.name)
                continue
            say(f"{run.name} ({number} of {len(runs)})")
            claim(folder, run, machine)
            status = _status(run, folder / run.name, execute, say)
        if status in _STOPPED or asked():
            progress.stopped = exit_status(asked()) if asked() else status
            return progress
        (progress.failed if status else progress.done).append(run.name)
    return progress


def _status(run: PlannedRun, folder: Path, execute: Execute, say: Callable[[str], None]) -> int:
    try:
        return execute(run, folder)
    except ArgumentError:
        raise
    except FastpipeError as error:
        say(f"{run.name} failed: {error}")
        return 1
