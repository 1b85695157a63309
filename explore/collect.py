"""From the arguments of the command to runs: folders and CSV files, beside the published points."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastpipe.efficiency.published import read_points
from fastpipe.errors import ArgumentError, DataError, MissingExtraError
from fastpipe.explore.events import EVENTS
from fastpipe.explore.folders import read_run, run_folders
from fastpipe.explore.limits import FILES, left_out
from fastpipe.explore.payload import as_json
from fastpipe.explore.published import runs_of, shipped_runs
from fastpipe.explore.records import record_runs
from fastpipe.explore.run import IMAGENET, Collection, Run
from fastpipe.explore.run_files import CONFIG, ENVIRONMENT, METRICS, PAGES, SUMMARY

Stamp = tuple[tuple[int, int] | None, ...]
_AGAIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What a folder gave when its files were as `stamp` says."""

    stamp: Stamp
    run: Run | None
    problems: list[str]
    at_s: float

    def stale(self) -> bool:
        """Whether to look again all the same: other trainers' runs end by doing nothing for a while."""
        going = self.run is not None and not self.run.finished
        return going and time.monotonic() - self.at_s >= _AGAIN_S


class Collector:
    """Reads the inputs, again and again while runs go on; an unchanged run folder is read once.

    paths: run folders, folders that hold some, CSV files with the columns of the published points, and
        records of studies.
    imagenet: what runs on ImageNet-1k call their data; only these share a frontier with published points.
    """

    def __init__(self, paths: Sequence[str], *, imagenet: Sequence[str] = (), published: bool = True) -> None:
        self._roots = [Path(path) for path in paths]
        self._imagenet = frozenset(imagenet)
        self._published = published
        self._known: dict[Path, _Known] = {}

    def check(self) -> None:
        """Raise ArgumentError for a path that does not exist now, or a file of another kind."""
        for root in self._roots:
            if root.is_file() and root.suffix.lower() not in (".csv", ".json"):
                raise ArgumentError(
                    "RUNS must be run folders, folders of them, .csv files, or records (.json) of studies. "
                    f"Found: the file {str(root)!r}"
                )
            if not root.exists():
                raise ArgumentError(f"RUNS must exist. Found: {str(root)!r}, which does not")

    def collect(self) -> Collection:
        """All runs, each once and with an id of its own, and what could not be shown."""
        runs: dict[str, Run] = {}
        problems: list[str] = []
        if self._published:
            runs = {run.id: run for run in shipped_runs()}
        places: set[Path] = set()
        for root in self._roots:
            for run in self._of(root, places, problems):
                own = self._as_imagenet(run)
                own = replace(own, id=_free(own.id, runs))
                runs[own.id] = own
        return Collection(runs=list(runs.values()), problems=problems)

    def _as_imagenet(self, run: Run) -> Run:
        return replace(run, dataset=IMAGENET) if run.dataset in self._imagenet else run

    def _of(self, root: Path, places: set[Path], problems: list[str]) -> Iterator[Run]:
        if not root.exists():
            problems.append(f"{root}: not there any more")
        elif root.is_file():
            yield from _of_file(root, places, problems)
        else:
            found = list(run_folders(root))
            if not found:
                marks = f"{METRICS}, {SUMMARY}, {EVENTS}* or run-*.wandb"
                problems.append(f"{root}: no run folder in it (none with {marks})")
            for folder in found:
                yield from self._of_folder(folder, _name(folder, root), places, problems)

    def _of_folder(self, folder: Path, name: str, places: set[Path], problems: list[str]) -> Iterator[Run]:
        place = folder.resolve()
        if place in places:
            problems.append(f"{folder}: named twice, shown once")
            return
        places.add(place)
        stamp, known = _stamp(folder), self._known.get(place)
        if known is None or known.stamp != stamp or known.stale():
            run, wrong = _read(folder, name)
            known = self._known[place] = _Known(stamp=stamp, run=run, problems=wrong, at_s=time.monotonic())
        problems += known.problems
        if known.run is not None:
            yield known.run


def _read(folder: Path, name: str) -> tuple[Run | None, list[str]]:
    """What read_run gives; what a foreign file makes it raise is a problem of that folder and of no other."""
    try:
        run, problems = read_run(folder, name)
        if run is not None:
            as_json(run.config)
        return run, problems
    except MissingExtraError:
        raise
    except Exception as error:
        return None, [f"{name}: not a run that can be read: {type(error).__name__}: {error}"]


def _of_file(path: Path, places: set[Path], problems: list[str]) -> Iterator[Run]:
    if path.resolve() in places:
        problems.append(f"{path}: named twice, shown once")
        return
    places.add(path.resolve())
    if reason := left_out(FILES, path):
        problems.append(f"{path}: {reason}")
        return
    try:
        found = list(_runs_in(path))
        as_json({run.id: run.config for run in found})
    except DataError as error:
        problems.append(str(error))
    except Exception as error:  # as for folders: a foreign file hides no other
        problems.append(f"{path}: cannot be read: {type(error).__name__}: {error}")
    else:
        yield from found


def _runs_in(path: Path) -> Iterator[Run]:
    if path.suffix.lower() == ".json":
        return record_runs(path)
    return runs_of(read_points(path), "own", str(path))


def _name(folder: Path, root: Path) -> str:
    inside = folder.relative_to(root).as_posix()
    return root.resolve().name if inside == "." else inside


def _free(identity: str, taken: dict[str, Run]) -> str:
    """`identity`, or with the first free number after it: folders of two places may bear one name."""
    number, free = 1, identity
    while free in taken:
        number += 1
        free = f"{identity} ({number})"
    return free


def _stamp(folder: Path) -> Stamp:
    found: list[tuple[int, int] | None] = []
    others = [*sorted(folder.glob(f"{EVENTS}*")), *sorted(folder.glob("run-*.wandb"))]
    own = [folder / name for name in (CONFIG, METRICS, SUMMARY, ENVIRONMENT, *PAGES)]
    for path in (*own, *others):
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)
