"""The index as a file: plain little-endian arrays behind a checked header, no pickle.

    header | meta (JSON) | offsets i64 [N+1] | labels i32 [N] | blob u8 | facts [N]

A CRC-32 covers everything before `facts`. `facts` (file size, height, width) are filled in later, in place,
so each record carries its own check word; a record that fails the check counts as not read. `_check` checks
everything in the file before it is used.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastpipe.storage.scan import Listing
from fastpipe.system.files import replace_file

_MAGIC = b"FPINDEX\0"
_VERSION = 1
# magic, version, CRC-32, id of this file, N, bytes of meta, bytes of blob, start of the scan in ns
_HEADER = struct.Struct("<8sII16sQQQq")
_CRC_FROM = 16
_FACT = np.dtype([("num_bytes", "<i8"), ("height", "<i4"), ("width", "<i4"), ("check", "<u8")])


class CorruptIndexError(ValueError):
    """The file is not an index, is damaged, or contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """The contents of an index file. num_bytes int64 [N] (-1: not read), image_hw int32 [N,2] (0: not read).

    root_ctime_ns: of the folder itself when it was read; None in files that lie in the folder.
    """

    listing: Listing
    extensions: tuple[str, ...]
    num_bytes: npt.NDArray[np.int64]
    image_hw: npt.NDArray[np.int32]
    file_id: bytes
    root_ctime_ns: int | None = None


def write_index(
    path: str,
    listing: Listing,
    extensions: tuple[str, ...],
    num_bytes: npt.NDArray[np.int64],
    image_hw: npt.NDArray[np.int32],
    *,
    root_ctime_ns: int | None = None,
) -> bytes:
    """Write the index atomically and return the id given to this file. Raises OSError."""
    file_id = secrets.token_bytes(16)
    described = {"classes": listing.classes, "dirs": listing.dirs, "extensions": extensions}
    meta = json.dumps({**described, "root_ctime_ns": root_ctime_ns}).encode()
    count, num_blob = len(listing.labels), len(listing.blob)
    arrays = (listing.offsets.astype("<i8"), listing.labels.astype("<i4"), listing.blob)
    body = [meta, *(array.tobytes() for array in arrays)]
    tail = (file_id, count, len(meta), num_blob, listing.started_ns)
    crc = zlib.crc32(_HEADER.pack(_MAGIC, _VERSION, 0, *tail)[_CRC_FROM:])
    for part in body:
        crc = zlib.crc32(part, crc)
    known = np.flatnonzero((num_bytes >= 0) | (image_hw[:, 0] > 0))

    def write(file: BinaryIO) -> None:
        file.write(_HEADER.pack(_MAGIC, _VERSION, crc, *tail))
        for part in body:
            file.write(part)
        start = file.tell()
        if len(known):
            records = np.zeros(count, _FACT)
            records[known] = _records(known, num_bytes[known], image_hw[known])
            file.write(records.tobytes())
        file.truncate(start + count * _FACT.itemsize)  # A hole as long as nothing is known.

    replace_file(path, write)
    return file_id


def read_index(path: str) -> Stored | None:
    """Read an index into memory; None if there is none, or only one of another version.

    Raises CorruptIndexError for a file that is damaged or was tampered with, OSError if it cannot be read.
    """
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):  # A pipe of that name would block forever.
            raise CorruptIndexError("not a regular file")
        with open(path, "rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        return None


def _read(file: BinaryIO, num_file: int) -> Stored | None:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or header[:8] != _MAGIC:
        raise CorruptIndexError("not an index file")
    _, version, crc, file_id, count, num_meta, num_blob, started_ns = _HEADER.unpack(header)
    if version != _VERSION:
        return None
    expected = _HEADER.size + num_meta + (count + 1) * 8 + count * 4 + num_blob + count * _FACT.itemsize
    if expected != num_file:
        raise CorruptIndexError(f"{num_file} bytes long, {expected} expected")
    meta_u8 = np.fromfile(file, np.uint8, num_meta)
    offsets = np.fromfile(file, "<i8", count + 1)
    labels = np.fromfile(file, "<i4", count)
    blob = np.fromfile(file, np.uint8, num_blob)
    facts = np.fromfile(file, _FACT, count)
    found = zlib.crc32(header[_CRC_FROM:])
    for part in (meta_u8, offsets, labels, blob):
        found = zlib.crc32(part.data, found)
    if found != crc or len(facts) != count:
        raise CorruptIndexError("checksum differs")
    classes, dirs, extensions, root_ctime_ns = _meta(meta_u8.tobytes())
    listing = Listing(
        classes=classes, dirs=dirs, started_ns=started_ns, blob=blob, offsets=offsets, labels=labels
    )
    _check(listing)
    num_bytes, image_hw = _facts(facts)
    return Stored(
        listing=listing,
        extensions=extensions,
        num_bytes=num_bytes,
        image_hw=image_hw,
        file_id=file_id,
        root_ctime_ns=root_ctime_ns,
    )


def _meta(text: bytes) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...], tuple[str, ...], int | None]:
    try:
        meta: Any = json.loads(text)
        classes, dirs, extensions = tuple(meta["classes"]), meta["dirs"], tuple(meta["extensions"])
        pairs = tuple((rel, mtime_ns) for rel, mtime_ns in dirs)
        root_ctime_ns = meta.get("root_ctime_ns")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise CorruptIndexError(f"unreadable description: {err}") from err
    names = (*classes, *extensions, *(rel for rel, _ in pairs))
    times = [m for _, m in pairs] + ([] if root_ctime_ns is None else [root_ctime_ns])
    if not all(isinstance(name, str) for name in names) or not all(type(m) is int for m in times):
        raise CorruptIndexError("unreadable description: a name is not a string, or a time is not an integer")
    return classes, pairs, extensions, root_ctime_ns


def _check(listing: Listing) -> None:
    """Raise unless every path stays within the folder of its class and every label is in range.

    A person who can edit this file must not be able to make us read files outside the data set.
    """
    offsets, labels, blob = listing.offsets, listing.labels, listing.blob
    if offsets[0] != 0 or offsets[-1] != len(blob) or np.any(np.diff(offsets) < 2):
        raise CorruptIndexError("offsets do not increase from 0 to the end")
    ends_ok = not len(blob) or (
        not blob[offsets[1:] - 1].any() and np.count_nonzero(blob == 0) == len(labels)
    )
    if not ends_ok:
        raise CorruptIndexError("a path does not end with exactly one zero byte")
    num_classes = len(listing.classes)
    if len(labels) and (labels[0] < 0 or labels[-1] >= num_classes or np.any(np.diff(labels) < 0)):
        raise CorruptIndexError(f"labels outside 0..{num_classes - 1}, or not in order")
    bounds = np.searchsorted(labels, np.arange(num_classes + 1, dtype=np.int32))
    for label, name in enumerate(listing.classes):
        first, last = int(bounds[label]), int(bounds[label + 1])
        paths = b"\0" + blob[offsets[first] : offsets[last]].tobytes()
        prefix = b"\0" + os.fsencode(name) + b"/"
        if paths.count(prefix) != last - first or b"/../" in paths:
            raise CorruptIndexError(f"a path leaves the folder of its class {name!r}")


def _check_words(ids: npt.NDArray[np.int64], records: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """Return a non-zero check word per record; a torn write, a flipped bit or a shifted record changes it."""
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for name, factor in (
        ("num_bytes", 0xC2B2AE3D27D4EB4F),
        ("height", 0x165667B19E3779F9),
        ("width", 0xD6E8FEB86659FD93),
    ):
        mixed = (mixed ^ records[name].astype(np.int64).view(np.uint64)) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return mixed | np.uint64(1)


def _records(
    ids: npt.NDArray[np.int64], num_bytes: npt.NDArray[np.int64], image_hw: npt.NDArray[np.int32]
) -> npt.NDArray[np.void]:
    records = np.zeros(len(ids), _FACT)
    records["num_bytes"], records["height"], records["width"] = num_bytes, image_hw[:, 0], image_hw[:, 1]
    records["check"] = _check_words(ids, records)
    return records


def _facts(records: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    num_bytes = np.full(len(records), -1, np.int64)
    image_hw = np.zeros((len(records), 2), np.int32)
    known = np.flatnonzero(records["check"])
    some = records[known]
    good = (some["check"] == _check_words(known, some)) & (some["num_bytes"] >= -1)
    good &= (some["height"] >= 0) & (some["width"] >= 0)
    known, some = known[good], some[good]
    num_bytes[known] = some["num_bytes"]
    image_hw[known] = np.stack([some["height"], some["width"]], axis=1)
    return num_bytes, image_hw


def write_facts(
    path: str,
    file_id: bytes,
    ids: npt.NDArray[np.int64],
    num_bytes: npt.NDArray[np.int64],
    image_hw: npt.NDArray[np.int32],
) -> None:
    """Fill in the facts of samples `ids` (increasing int64 [B]) in the file, if it is still `file_id`.

    Each record is written as a whole; another process may write the same records with the same contents.
    Raises OSError.
    """
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags), "r+b", buffering=0) as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return
        magic, version, _, found_id, count, num_meta, num_blob, _ = _HEADER.unpack(header)
        if (magic, version, found_id) != (_MAGIC, _VERSION, file_id):
            return
        start = _HEADER.size + num_meta + (count + 1) * 8 + count * 4 + num_blob
        records = _records(ids, num_bytes, image_hw)
        runs = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 2) != 1)
        for first, last in zip(runs, [*runs[1:], len(ids)], strict=True):
            file.seek(start + int(ids[first]) * _FACT.itemsize)
            file.write(records[first:last].tobytes())
