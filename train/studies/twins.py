"""Runs that tables have in common: none is repeated that another study of this --output has finished.

Table 7's SAM in every fifth step is Hot as it stands, and so are rows of Tables 4 and 6. Two runs are the
same if their resolved settings and seeds are equal, on the same images, however they are written down.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.studies.catalogue import EXPERIMENTS
from fastpipe.train.studies.design import Scale
from fastpipe.train.studies.folder import COMMAND, STUDY, finished, read_object, settings, write_object
from fastpipe.train.studies.scale import PlannedRun, planned

TAKEN_FROM = "taken_from"
"""Key of command.json: the run folder, relative to --output, that this one is a copy of."""

Resolve = Callable[[PlannedRun], TrainConfig | None]
"""What a run trains, its places left out; None for a run that cannot be anybody's twin."""


@dataclass(frozen=True, kw_only=True)
class Twins:
    """The finished runs of all studies in `output` on the same data. facts: of the data, as in study.json."""

    output: Path
    scale: Scale
    facts: Mapping[str, Any]
    resolve: Resolve

    def adopt(self, folder: Path, run: PlannedRun) -> str | None:
        """Copy the run's twin into `folder`, if there is one; returns where it is, relative to `output`.

        A run that has begun on its own has no twin.
        """
        if (folder / run.name).exists():
            return None
        wanted = self.resolve(run)
        if wanted is None:
            return None
        for home, other in self._finished(run.seed):
            if home != folder and self.resolve(other) == wanted:
                name = f"{home.name}/{other.name}"
                _copy(home / other.name, folder / run.name, run, name)
                return name
        return None

    def _finished(self, seed: int) -> Iterator[tuple[Path, PlannedRun]]:
        for experiment in EXPERIMENTS.values():
            home = self.output / f"{experiment.name}-{self.scale}"
            data = (read_object(home / STUDY) or {}).get("data")
            if not isinstance(data, dict) or {key: data.get(key) for key in self.facts} != dict(self.facts):
                continue
            yield from ((home, run) for run in _of(seed, planned(experiment, self.scale, seeds=seed), home))


def _of(seed: int, runs: Sequence[PlannedRun], home: Path) -> Iterator[PlannedRun]:
    """Finished runs of a seed that were made with this version's settings."""
    for run in runs:
        if run.seed == seed and not run.timed and finished(home, run):
            noted = read_object(home / run.name / COMMAND) or {}
            if noted.get("settings") == settings(run):
                yield run


def _copy(source: Path, target: Path, run: PlannedRun, name: str) -> None:
    """The folder appears whole, under its final name, with a note of where it comes from."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        shutil.copytree(source, temporary, copy_function=_link_or_copy)
        noted = read_object(source / COMMAND) or {}
        # First the one who trained it: a twin may be a copy itself.
        origin = noted.get(TAKEN_FROM, name)
        write_object(temporary / COMMAND, {**noted, "settings": settings(run), TAKEN_FROM: origin})
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> None:
    """Finished runs do not change, so a hard link serves, and checkpoints are large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
