"""Our section of a `.beton` file: classes, file names and checksums, which FFCV's format lacks.

    JSON | checksums u32 [N] | name offsets u64 [N+1] | names u8, each closed by a zero byte

Each part is padded to 8 bytes.

The image field's arguments (format.SIDE) store its place and its CRC-32. N samples.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastpipe.errors import DataError
from fastpipe.storage.beton.format import SIDE, SIDE_MAGIC
from fastpipe.storage.beton.tables import Frame, read_exactly

_SIDE_VERSION = 1
_MAX_JSON = 1 << 26  # 64 MiB: a million class names of 60 letters
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """The file's description of itself. The three addresses are the arrays', checked to be inside."""

    classes: tuple[str, ...]
    about: dict[str, Any]
    checksums_at: int
    offsets_at: int
    names_at: int


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def write_side(
    file: BinaryIO,
    *,
    classes: Sequence[str],
    about: dict[str, Any],
    checksums: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.uint64],
    names: npt.NDArray[np.uint8],
) -> bytes:
    """Write the section at the file's position (a multiple of 8); return the image field's argument bytes.

    `offsets` [N+1] give the start of each name in `names`. Raises OSError.
    """
    ptr = file.tell()
    text = json.dumps({"classes": list(classes), "about": about}).encode()
    crc = size = 0
    arrays = (checksums.astype("<u4"), offsets.astype("<u8"), np.ascontiguousarray(names))
    for data in (memoryview(text), *(array.data.cast("B") for array in arrays)):
        for block in (data, bytes(_padded(len(data)) - len(data))):
            file.write(block)
            crc = zlib.crc32(block, crc)
            size += len(block)
    record = np.zeros(1, SIDE)
    record[0] = (SIDE_MAGIC, _SIDE_VERSION, crc, ptr, size, len(text), len(names))
    return record.tobytes()


def read_side(file: BinaryIO, frame: Frame) -> Side | None:
    """Read and check the section; None in a file of stock FFCV or of a later version. Raises DataError."""
    record = np.frombuffer(frame.fields.arguments, SIDE, 1)[0]
    if record["magic"] != SIDE_MAGIC or record["version"] != _SIDE_VERSION:
        return None
    ptr, size, num_json, num_names = (int(record[name]) for name in ("ptr", "size", "num_json", "num_names"))
    count = frame.num_samples
    checksums_at = ptr + _padded(num_json)
    offsets_at = checksums_at + _padded(4 * count)
    names_at = offsets_at + 8 * (count + 1)
    end = names_at + _padded(num_names)
    if num_json > _MAX_JSON or ptr < frame.rows_end or end > frame.table_start or end - ptr != size:
        raise DataError(
            "the section of classes and names is outside the file: the file is damaged. Write it again"
        )
    if _crc(file, ptr, size) != int(record["crc"]):
        raise DataError(
            "the section of classes and names fails its checksum: the file is damaged. Write it again"
        )
    file.seek(ptr)
    classes, about = _described(read_exactly(file, np.dtype("u1"), num_json, "its description").tobytes())
    _check_offsets(file, offsets_at, count, num_names)
    return Side(
        classes=classes, about=about, checksums_at=checksums_at, offsets_at=offsets_at, names_at=names_at
    )


def _blocks(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    file.seek(start)
    while size:
        block = file.read(min(size, _BLOCK))
        if not block:
            raise DataError("the file ends within the section of classes and names")
        size -= len(block)
        yield block


def _crc(file: BinaryIO, start: int, size: int) -> int:
    crc = 0
    for block in _blocks(file, start, size):
        crc = zlib.crc32(block, crc)
    return crc


def _described(text: bytes) -> tuple[tuple[str, ...], dict[str, Any]]:
    try:
        content: Any = json.loads(text)
        classes, about = tuple(content["classes"]), dict(content["about"])
    except (ValueError, TypeError, KeyError, RecursionError) as err:
        raise DataError(f"the description of classes cannot be read: {err}") from err
    if not all(isinstance(name, str) for name in classes):
        raise DataError("the description of classes cannot be read: a name is not a string")
    return classes, about


def _check_offsets(file: BinaryIO, offsets_at: int, count: int, num_names: int) -> None:
    """Raise unless the offsets increase from 0 to the end of the names."""
    file.seek(offsets_at)
    last = 0
    for start in range(0, count + 1, _BLOCK):
        part = read_exactly(file, np.dtype("<u8"), min(_BLOCK, count + 1 - start), "its name offsets")
        if int(part[0]) < last or (start == 0 and part[0]) or np.any(part[1:] < part[:-1]):
            raise DataError("the offsets of the names do not increase: the file is damaged")
        last = int(part[-1])
    if last != num_names:
        raise DataError("the offsets of the names do not end with the names: the file is damaged")


def name_at(data: npt.NDArray[np.uint8], side: Side, i: int) -> str:
    """The name of sample i from the bytes of the whole file."""
    where = side.offsets_at + 8 * i
    start, stop = data[where : where + 16].view("<u8").tolist()
    return os.fsdecode(data[side.names_at + start : side.names_at + stop].tobytes().rstrip(b"\0"))
