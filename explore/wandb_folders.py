"""Folders that Weights & Biases wrote offline, as runs of the page. The package wandb is not needed.

A `.wandb` file is a log in LevelDB's format (https://github.com/google/leveldb/blob/main/doc/log_format.md)
behind seven bytes, with CRC-32 in place of CRC-32C; its records are messages of wandb_internal.proto.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fastpipe.explore.limits import LOGS, MOST_VALUES, left_out, too_many_values
from fastpipe.explore.run import Run
from fastpipe.explore.scalars import Scalar, run_of_scalars
from fastpipe.explore.settings import flat
from fastpipe.explore.wire import fields, part

_HEADER: Final = b":W&B\xe1\xbe\x00"
_BLOCK: Final = 32768
_WHOLE, _FIRST, _MIDDLE, _LAST = _KINDS = 1, 2, 3, 4
# Field numbers of wandb_internal.proto.
_HISTORY, _CONFIG, _RUN, _EXIT = 2, 5, 17, 18
_RUN_CONFIG, _RUN_NAME = 4, 8
_ITEM, _UPDATE = 1, 1
_KEY, _NESTED_KEY, _INTEGER, _NUMBER, _JSON = 1, 2, 5, 6, 16


@dataclass(kw_only=True)
class _Logged:
    """What a file holds."""

    scalars: dict[str, list[Scalar]] = field(default_factory=lambda: defaultdict(list))
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    began_s: float | None = None
    ended: bool = False

    def take(self, record: bytes) -> None:
        """Add a record. ValueError for one that is torn."""
        for number, value in fields(record):
            if not isinstance(value, bytes):
                continue
            if number == _HISTORY:
                self._history(value)
            elif number == _RUN:
                self.name = (part(value, _RUN_NAME) or b"").decode(errors="replace")
                self.config |= _settings(part(value, _RUN_CONFIG) or b"")
            elif number == _CONFIG:
                self.config |= _settings(value)
            elif number == _EXIT:
                self.ended = True

    def _history(self, message: bytes) -> None:
        row = dict(_items(message, _ITEM))
        at_s = row.pop("_timestamp", None)
        if not isinstance(at_s, int | float):
            return
        self.began_s = float(at_s) if self.began_s is None else self.began_s
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.scalars[name].append(Scalar(float(at_s), float(value)))


def is_wandb(name: str) -> bool:
    """Whether a file of this name is the log of a run."""
    return name.startswith("run-") and name.endswith(".wandb")


def read_wandb(folder: Path, identity: str) -> tuple[Run | None, list[str]]:
    """The run that W&B logged in `folder`, and what is wrong with it."""
    file = next(path for path in sorted(folder.iterdir()) if is_wandb(path.name))
    if reason := left_out(LOGS, file):
        return None, [f"{identity}: {reason}"]
    logged, problems = _Logged(), []
    try:
        for record in _records(file.read_bytes()):
            logged.take(record)
    except (OSError, ValueError) as error:
        problems.append(f"{identity}: {file.name} cannot be read to its end: {error}")
    run, wrong = run_of_scalars(
        logged.scalars,
        logged.began_s or 0.0,
        folder=folder,
        identity=identity,
        maker="W&B",
        ended=logged.ended,
    )
    if too_many_values(logged.config):
        problems.append(f"{identity}: more than {MOST_VALUES:,} settings, which are left out")
        logged.config = {}
    if run is not None:
        run = replace(run, title=logged.name or run.title, config=flat(logged.config))
    return run, [*problems, *wrong]


def _records(data: bytes) -> Iterator[bytes]:
    """The records, each checked. ValueError for damage; a record that is not there yet ends them."""
    if not data.startswith(_HEADER):
        raise ValueError("it does not begin as W&B's files do")
    at, parts = len(_HEADER), b""
    while True:
        if _BLOCK - at % _BLOCK < 7:  # the rest of a block is filled with zeros
            at += _BLOCK - at % _BLOCK
        if at + 7 > len(data):
            return
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + 7 : at + 7 + length]
        if len(chunk) < length:
            return
        if kind not in _KINDS or zlib.crc32(chunk, zlib.crc32(bytes([kind]))) != checksum:
            raise ValueError(f"the record at byte {at} is damaged")
        at += 7 + length
        parts = chunk if kind in (_WHOLE, _FIRST) else parts + chunk
        if kind in (_WHOLE, _LAST):
            yield parts


def _items(message: bytes, number: int) -> Iterator[tuple[str, Any]]:
    """Name and value of each item; the parts of a nested name are joined by dots."""
    for key, item in fields(message):
        if key != number or not isinstance(item, bytes):
            continue
        names: list[str] = []
        value: Any = None
        for place, found in fields(item):
            if place in (_KEY, _NESTED_KEY) and isinstance(found, bytes):
                names.append(found.decode(errors="replace"))
            elif place == _JSON and isinstance(found, bytes):
                value = json.loads(found)
            elif place in (_INTEGER, _NUMBER):
                value = found
        yield ".".join(name for name in names if name), value


def _settings(message: bytes) -> Mapping[str, Any]:
    return {name: value for name, value in _items(message, _UPDATE) if not name.startswith("_")}
