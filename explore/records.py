"""The runs in a record of `fastpipe-train study`, for a page without their folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastpipe.errors import DataError
from fastpipe.explore.folders import hardware_of, run_of
from fastpipe.explore.run import Run
from fastpipe.explore.settings import flat
from fastpipe.train.studies.record import KIND, arm_stem


def record_runs(path: Path) -> Iterator[Run]:
    """Each training of a record; DataError for another file, and for loaders that were only timed."""
    record = _read(path)
    try:
        arms = {arm["name"]: arm for arm in record["arms"]}
        configs = {name: flat(arm["config"]) for name, arm in arms.items()}
        if not any(configs[run["arm"]] for run in record["runs"]):
            raise DataError(f"{str(path)!r} has no training: {record['citation']} was only timed or reckoned")
        where = f"{record['experiment']}-{record['scale']}"
        machines = record.get("machines", [])
        for run in record["runs"]:
            if configs[run["arm"]]:
                found = _run(f"{where}/{run['arm']}/seed-{run['seed']}", configs[run["arm"]], run, path)
                hardware = hardware_of(run["summary"], _environment(run, machines))
                yield replace(_of_arm(found, record["citation"], arms[run["arm"]]), hardware=hardware)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{str(path)!r} is not a complete record of a study: {error!r}") from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(found, Mapping) or found.get("kind") != KIND:
        raise DataError(f"{str(path)!r} is no record of fastpipe-train study")
    return found


def _run(identity: str, config: Mapping[str, Any], run: Mapping[str, Any], path: Path) -> Run:
    own = {**config, "seed": run["seed"]}
    # Its folder is elsewhere: nothing beside the record, or below the current folder, belongs to it.
    return run_of(path, identity, own, run["summary"], list(run["epochs"]))


def _environment(run: Mapping[str, Any], machines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The run's machine as in environment.json. Earlier records name the machines of all runs alone."""
    machine = run.get("machine") or (machines[0] if len(machines) == 1 else {})
    names = {"cpu": "processor", "cpus_usable": "cpus", "gpu": "gpu", "processes": "gpus"}
    return {name: machine[key] for name, key in names.items() if machine.get(key)}


def _of_arm(run: Run, citation: str, arm: Mapping[str, Any]) -> Run:
    """Arms of one recipe are families of their own: a curve must not join what a table compares.

    Lengths of an arm, such as mixup-180 and mixup-540, are one curve. An arm that is named for its recipe
    alone is that recipe.
    """
    stem = arm_stem(arm)
    if stem == run.family:
        return run
    return replace(run, family=f"{citation}: {stem}", title=f"{citation}: {arm['name']}")
