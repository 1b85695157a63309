"""Where a study's results are and go: what its folder notes of the data, and the files of `--record`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.studies.folder import STUDY, read_object

SUFFIXES = (".json", ".md")
"""Of the files of a record."""


def noted_data(folder: Path) -> dict[str, Any]:
    """The name, the numbers of images and the classes of the data, as `study.json` has them.

    Raises ArgumentError for a folder without a study, DataError for a damaged file.
    """
    path = folder / STUDY
    if not path.exists():
        raise ArgumentError(
            f"--report must find a study in {str(folder)!r}. Found: no {STUDY}. "
            "Name its NAME, --scale and --output"
        )
    data = (read_object(path) or {}).get("data")
    if not isinstance(data, dict) or not {"name", "train", "classes"} <= data.keys():
        raise DataError(f"{str(path)!r} is damaged: it does not say which data the runs are on")
    # Earlier versions noted it as it was given, which may be the place on one machine.
    return {**data, "name": Path(str(data["name"])).name or str(data["name"])}


def record_stem(given: str) -> Path:
    """The path of `--record` without `.json` or `.md`, once its two files are known to be writable.

    Raises ArgumentError: a study trains for hours before it writes them.
    """
    path = Path(given)
    stem = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    if given.endswith(("/", "\\")) or path.is_dir() or not stem.name:
        raise ArgumentError(
            f"--record must name a file: FILE.md and FILE.json are written. Found: the folder {given!r}. "
            "Add a name to it"
        )
    for suffix in SUFFIXES:
        if (file := stem.with_name(stem.name + suffix)).is_dir():
            raise ArgumentError(
                f"--record must name files that can be written. Found: {str(file)!r}, a folder"
            )
    _try(stem, given)
    return stem


def _try(stem: Path, given: str) -> None:
    """Write beside the files and take it away again: rights alone do not say what a file system does."""
    probe = stem.with_name(f"{stem.name}.{secrets.token_hex(6)}.tmp")
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ArgumentError(
            f"--record must name a file in a folder that can be written. Found: {given!r} ({error.strerror})"
        ) from error
