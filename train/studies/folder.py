"""The folder of a study: what it was made for, and which of its runs are finished.

OUTPUT/table4-small/study.json               experiment, scale and data; another one is refused
OUTPUT/table4-small/mixup-180/seed-1/        the usual run folder, with command.json beside its files
OUTPUT/table4-small/mixup-180/seed-1.lock-1  whoever works on it
OUTPUT/table4-small/record.json, record.md   the results so far
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError, DataError
from fastpipe.system.files import replace_file
from fastpipe.train.splits import open_data
from fastpipe.train.studies.scale import PlannedRun

STUDY, COMMAND, SUMMARY, TIMED = "study.json", "command.json", "summary.json", "loading.json"
# They may differ between machines that share a study.
_PLACES = ("data", "output_dir", "resume")


def data_facts(data: str, *, held_out: float) -> dict[str, Any]:
    """What tells data sets apart wherever they are mounted: the images of each split, and the classes."""
    found = open_data(data, held_out=held_out)
    return {
        "train": len(found.train),
        "validation": len(found.validation),
        "test": None if found.test is None else len(found.test),
        "classes": list(found.classes),
    }


def open_study(folder: Path, experiment: str, scale: str, data: str, facts: Mapping[str, Any]) -> None:
    """Make the folder, or check that it belongs to the same study; ArgumentError if it does not."""
    wanted = {"experiment": experiment, "scale": scale, "data": {"name": data, **facts}}
    path = folder / STUDY
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _link_once(path, wanted)
    except OSError as error:
        raise ArgumentError(f"--output cannot be written: {str(folder)!r} ({error.strerror})") from error
    there = read_object(path)
    if there is None:
        raise DataError(
            f"{str(path)!r} is damaged. Name another --output, or remove the file to adopt the runs"
        )
    for name, value in {"experiment": experiment, "scale": scale}.items():
        if there.get(name) != value:
            raise ArgumentError(
                f"{str(folder)!r} holds the {name} {there.get(name)!r}. Found: {value!r}. "
                "Name another --output"
            )
    before = there.get("data")
    if not isinstance(before, dict) or {k: before.get(k) for k in facts} != dict(facts):
        shown = before.get("name") if isinstance(before, dict) else before
        raise ArgumentError(
            f"{str(folder)!r} holds runs on other data ({shown!r}): images or classes differ from those of "
            f"{data!r}. Name another --output"
        )


def _link_once(path: Path, values: Mapping[str, Any]) -> None:
    """Write `path` unless another machine is first; nobody ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # no hard links here
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def finished(folder: Path, run: PlannedRun) -> bool:
    """Whether the run has its last file, whole. Torn JSON counts as unfinished."""
    return read_object(folder / run.name / (TIMED if run.timed else SUMMARY)) is not None


def claim(folder: Path, run: PlannedRun, machine: Mapping[str, Any]) -> None:
    """Note the run's settings and machine in its folder, and refuse a folder of other settings."""
    check_settings(folder, run)
    path = folder / run.name / COMMAND
    path.parent.mkdir(parents=True, exist_ok=True)
    write_object(path, {"settings": settings(run), "machine": dict(machine)})


def check_settings(folder: Path, run: PlannedRun) -> None:
    """Raise ArgumentError if the run's folder was made with other settings, as by another version."""
    path = folder / run.name / COMMAND
    wanted = settings(run)
    there = read_object(path)
    if there is not None and there.get("settings") != wanted:
        raise ArgumentError(
            f"{str(path.parent)!r} was made with {there.get('settings')}, and this study asks for "
            f"{wanted}. Name another --output"
        )


def most_seeds(folder: Path) -> int:
    """The highest seed that any arm has a folder for; 0 without one."""
    found = [path.name.removeprefix("seed-") for path in folder.glob("*/seed-*") if path.is_dir()]
    return max((int(seed) for seed in found if seed.isdecimal()), default=0)


def settings(run: PlannedRun) -> dict[str, Any]:
    """What decides the outcome of a run, as plain values."""
    if run.timed:
        assert run.arm.loading is not None
        work = run.arm.loading
        return {"size": work.size, "backend": work.backend, "depth": work.depth, "seed": run.seed}
    return {key: value for key, value in run.options.items() if key not in _PLACES}


def write_object(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON in one move. Raises DataError, with the reason."""
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    try:
        replace_file(str(path), lambda file: file.write(text.encode()))
    except OSError as error:
        raise DataError(f"{str(path)!r} could not be written: {error.strerror}") from error


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file is not there, torn, or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
