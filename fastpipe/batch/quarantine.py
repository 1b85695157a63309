"""The list of broken samples that one run leaves for the next: one JSON object a line.

The process that delivers batches appends the lines, so no worker writes. An entry is valid while its file
keeps its size and time; an entry without them (a line written by hand: {"path": "..."}) is always valid.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastpipe.batch.locate import parts
from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage import leaf_of
from fastpipe.system.files import file_lock, user_cache_dir
from fastpipe.types import Incident

__all__ = ["IncidentLog", "Quarantine", "default_quarantine"]

_log = logging.getLogger("fastpipe")

_MAX_BYTES = 64 << 20  # about 200,000 entries; a longer file is not a list of exceptions
_FEW = 5  # incidents per epoch that are never too many: 1 % of a small data set is less than one file


def default_quarantine(dataset: Any) -> Path | None:
    """The list of this data set in the user's cache directory; None if its samples have no files."""
    roots = []
    for part in parts(dataset):
        leaf = leaf_of(part)
        root = getattr(part, "root", None) if leaf is None else leaf.root
        if root is None:
            return None
        roots.append(os.path.abspath(os.fspath(root)))
    text = "\n".join(sorted(set(roots)))
    name = f"{Path(roots[0]).name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    return user_cache_dir() / "quarantine" / name


class Quarantine:
    """The list in one file. given: the user named it, so a failure to write it is an error.

    Raises ArgumentError when the folder of a named file does not exist.
    """

    def __init__(self, path: str | os.PathLike[str], *, given: bool) -> None:
        self.path = Path(path).expanduser()
        self.given = given
        self._stamp: tuple[int, int] | None = None
        self._keys: frozenset[str] = frozenset()
        self._usable = True
        if given and not self.path.parent.is_dir():
            raise ArgumentError(
                f"quarantine must be a file in a folder that exists, None (a list in the cache directory) or "
                f"False (no list). Found: {os.fspath(path)!r}; make {str(self.path.parent)!r} first"
            )

    def listed(self) -> frozenset[str]:
        """Keys of the samples that are known to be broken and whose files have not changed since.

        Raises DataError for a file that is far too large to be a list.
        """
        stamp = _stamp_of(self.path)
        if stamp is None:
            self._stamp, self._keys = None, frozenset()
        elif stamp != self._stamp:
            if stamp[0] > _MAX_BYTES:
                raise DataError(
                    f"the quarantine list {str(self.path)!r} has {stamp[0] >> 20} MiB; at most "
                    f"{_MAX_BYTES >> 20} MiB are read. Delete it, or repair the data set"
                )
            try:
                data = self.path.read_bytes()
            except OSError as error:
                raise DataError(
                    f"the quarantine list {str(self.path)!r} cannot be read ({error.strerror}). "
                    f"Name another file, or pass quarantine=False"
                ) from error
            self._keys = frozenset(self._holding(data))
            self._stamp = stamp
        return self._keys

    def _holding(self, data: bytes) -> Iterator[str]:
        for number, line in enumerate(data.splitlines(), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                path = entry["path"]
            except (ValueError, KeyError, TypeError, RecursionError):
                _log.warning("line %d of the quarantine list %s is not an entry: ignored", number, self.path)
                continue
            if isinstance(path, str) and entry.get("lasting", True) and _still_holds(entry, path):
                yield path

    def add(self, incidents: Iterable[Incident]) -> bool:
        """Append an entry for each; whether that was done. Safe with other processes that append to the list.

        Raises DataError when a list that the user named cannot be written; one in the cache only warns.
        """
        entries = [_entry(incident) for incident in incidents]
        if not entries or not self._usable:
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self.path.with_name(f"{self.path.name}.lock")), open(self.path, "a+b") as file:
                file.write(_missing_newline(file) + b"".join(entries))
        except OSError as error:
            self._usable = False
            reason = f"the quarantine list {str(self.path)!r} cannot be written ({error.strerror})"
            if self.given:
                raise DataError(f"{reason}. Name another file, or pass quarantine=False") from error
            _log.warning("%s: the next run will meet the broken samples again", reason)
        return self._usable


def _missing_newline(file: Any) -> bytes:
    """The line end that a killed writer's last line lacks."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _entry(incident: Incident) -> bytes:
    stamp = _stamp_of(_file_of(incident.key))
    entry = {
        "path": incident.key,
        "action": incident.action,
        "reason": incident.reason,
        "sample_id": incident.sample_id if isinstance(incident.sample_id, int) else repr(incident.sample_id),
        "substitute": incident.substitute,
        "lasting": incident.lasting and incident.action != "rescued",
        "size": stamp and stamp[0],
        "mtime_ns": stamp and stamp[1],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(entry).encode() + b"\n"


def _still_holds(entry: dict[str, Any], path: str) -> bool:
    if entry.get("size") is None or entry.get("mtime_ns") is None:
        return True
    return _stamp_of(_file_of(path)) == (entry["size"], entry["mtime_ns"])


def _file_of(key: str) -> str:
    """The file behind a key: a path, or BETON#index."""
    head, mark, tail = key.rpartition("#")
    return head if mark and tail.isdigit() and not os.path.exists(key) else key


def _stamp_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


class IncidentLog:
    """Handles incidents in the delivering process: logs each once, lists it, and stops at too many."""

    def __init__(self, quarantine: Quarantine | None, max_bad: float) -> None:
        self.quarantine = quarantine
        self.max_bad = max_bad
        self.counts: Counter[str] = Counter()  # counts of incidents delivered since then, by action
        self.of_epoch: list[Incident] = []  # those delivered in the newest epoch
        self._said: set[tuple[str, str]] = set()
        self._limit = 0
        self._bad = 0

    def listed(self) -> frozenset[str]:
        """The samples that are known to be broken; logs a line the first time there are some."""
        if self.quarantine is None:
            return frozenset()
        keys = self.quarantine.listed()
        if keys and not self._said:
            self._said.add(("", ""))
            _log.warning(
                "%d samples are in the quarantine list %s and are not tried; delete it to try them again",
                len(keys),
                self.quarantine.path,
            )
        return keys

    def begin(self, num_samples: int) -> None:
        """An epoch of so many samples begins."""
        self._bad = 0
        self.of_epoch = []
        self._limit = max(_FEW, int(self.max_bad * num_samples))

    def note(self, incidents: tuple[Incident, ...]) -> None:
        """Take the incidents of a batch that is about to be delivered. Raises DataError at too many."""
        if not incidents:
            return
        self.counts.update(incident.action for incident in incidents)
        self.of_epoch += incidents
        new = []
        for incident in incidents:
            said = (incident.key, incident.action)
            if not incident.listed and said not in self._said:
                self._said.add(said)
                new.append(incident)
                _log.warning("%s", incident)
        if self.quarantine is not None and self.quarantine.add(new):
            _log.warning(
                "Listed in %s; files that are broken for good are not tried again", self.quarantine.path
            )
        self._bad += sum(incident.action != "rescued" for incident in incidents)
        if self._bad > self._limit:
            raise DataError(
                f"{self._bad} samples of this epoch were skipped or replaced; max_bad={self.max_bad:g} "
                f"allows {self._limit}. Last: {incidents[-1]}. Repair the data, or raise max_bad"
            )
