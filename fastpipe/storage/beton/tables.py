"""Reads the tables of a `.beton` file and checks everything in them before it is used.

N samples, F fields. Every check is on whole arrays: 1.3 million samples take about a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.storage.beton.format import (
    ALLOCATION,
    DESCRIPTOR,
    FIELD_KINDS,
    HEADER,
    INT_KIND,
    JPEG,
    MIN_PAGE,
    RAW,
    RGB_KIND,
    VERSION,
    row_dtype,
)

_MAX_FIELDS = 256
_ROWS_AT_ONCE = 1 << 16  # so that the rows, 31 MB at 1.3 million, are never in memory as a whole
_SHORTEST_JPEG = 4  # SOI and EOI; the rest is checked when the sample is read


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fields:
    """The fields of a file, the places of the two fields that are read, the image field's argument bytes."""

    names: tuple[str, ...]
    kinds: tuple[int, ...]
    image: int
    label: int
    arguments: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """The places of the file's parts, checked against its size: samples are in rows_end..table_start."""

    num_file: int
    num_samples: int
    page_size: int
    fields: Fields
    rows_start: int
    rows_end: int
    table_start: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """heights, widths uint16 [N]; modes uint8 [N]; pointers, lengths uint64 [N]; labels int64 [N]."""

    heights: npt.NDArray[np.uint16]
    widths: npt.NDArray[np.uint16]
    modes: npt.NDArray[np.uint8]
    pointers: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.int64]


def read_exactly(file: BinaryIO, dtype: np.dtype[Any], count: int, what: str) -> npt.NDArray[Any]:
    """`count` items from the file's position; DataError if the file ends before."""
    items = np.fromfile(file, dtype, count)
    if len(items) != count:
        raise DataError(f"the file ends within {what}")
    return items


def read_frame(file: BinaryIO, num_file: int, image_field: str | None, label_field: str | None) -> Frame:
    """Read and check header and field descriptors of a file of `num_file` bytes. Raises DataError."""
    if num_file < HEADER.itemsize:
        raise DataError(
            f"{num_file} bytes is too short for a .beton file, whose header has {HEADER.itemsize}"
        )
    header = read_exactly(file, HEADER, 1, "its header")[0]
    version, num_fields, page, count, table_start = (int(header[name]) for name in HEADER.names or ())
    if version != VERSION:
        raise DataError(
            f"format version {version} is not {VERSION}: not a .beton file of FFCV, or one of another version"
        )
    if table_start == 0:
        raise DataError(
            "the file has no allocation table: its writer was stopped before it finished. Write it again"
        )
    if page < MIN_PAGE or page & (page - 1):
        raise DataError(f"page size {page} is not a power of two >= {MIN_PAGE}: the header is damaged")
    if not 1 <= num_fields <= _MAX_FIELDS:
        raise DataError(f"{num_fields} fields, but 1 to {_MAX_FIELDS} are allowed: the header is damaged")
    if not count:
        raise EmptyDatasetError("the file contains no sample")
    rows_start = HEADER.itemsize + num_fields * DESCRIPTOR.itemsize
    if rows_start > num_file:
        raise DataError(f"{num_file} bytes is too short for the descriptors of {num_fields} fields")
    descriptors = read_exactly(file, DESCRIPTOR, num_fields, "its field descriptors")
    fields = _fields(descriptors, image_field, label_field)
    rows_end = rows_start + count * row_dtype(list(fields.kinds)).itemsize
    if not rows_end <= table_start <= num_file:
        raise DataError(
            f"the rows of {count} samples end at byte {rows_end} and the allocation table starts at "
            f"{table_start}, in a file of {num_file} bytes: the file is damaged or truncated"
        )
    if (num_file - table_start) % ALLOCATION.itemsize:
        raise DataError(
            f"the allocation table has {num_file - table_start} bytes, not a multiple of "
            f"{ALLOCATION.itemsize}: the file is damaged or truncated"
        )
    return Frame(
        num_file=num_file,
        num_samples=count,
        page_size=page,
        fields=fields,
        rows_start=rows_start,
        rows_end=rows_end,
        table_start=table_start,
    )


def _fields(descriptors: npt.NDArray[Any], image_field: str | None, label_field: str | None) -> Fields:
    names, kinds = [], []
    for descriptor in descriptors:
        name = descriptor["name"].tobytes().split(b"\0")[0].decode("ascii", "backslashreplace")
        kind = int(descriptor["type_id"])
        if kind not in FIELD_KINDS:
            raise DataError(
                f"the field {name!r} is of the custom type {kind}, so the layout of the rows is "
                "unknown. Write the file without it"
            )
        names.append(name)
        kinds.append(kind)
    image = _find(names, kinds, RGB_KIND, image_field, "image", "image_field")
    label = _find(names, kinds, INT_KIND, label_field, "label", "label_field")
    return Fields(
        names=tuple(names),
        kinds=tuple(kinds),
        image=image,
        label=label,
        arguments=descriptors[image]["arguments"].tobytes(),
    )


def _find(names: list[str], kinds: list[int], kind: int, asked: str | None, usual: str, argument: str) -> int:
    """The place of the field of this kind: the requested, the only, or the usually named one."""
    places = [place for place, found in enumerate(kinds) if found == kind]
    if asked is not None or len(places) > 1:
        places = [place for place in places if names[place] == (usual if asked is None else asked)]
    if len(places) == 1:
        return places[0]
    found = ", ".join(f"{name!r} ({FIELD_KINDS[k][0]})" for name, k in zip(names, kinds, strict=True))
    wanted = f"one {FIELD_KINDS[kind][0]} field" + (f" named {asked!r}" if asked is not None else "")
    choice = f"give the loader fastpipe.storage.BetonDataset(PATH, {argument}=NAME)"
    if not places and kind not in kinds:
        choice = "write the file with one"
    raise DataError(f"{wanted} is needed: {choice}. Fields of the file: {found}")


def read_tables(file: BinaryIO, frame: Frame) -> Tables:
    """Read rows and allocation table; every sample's bytes then lie within the file. Raises DataError."""
    count = frame.num_samples
    tables = Tables(
        heights=np.empty(count, np.uint16),
        widths=np.empty(count, np.uint16),
        modes=np.empty(count, np.uint8),
        pointers=np.empty(count, np.uint64),
        lengths=np.empty(count, np.uint64),
        labels=np.empty(count, np.int64),
    )
    file.seek(frame.rows_start)
    row = row_dtype(list(frame.fields.kinds))
    for start, rows in _blocks(file, row, count, "its rows"):
        part = slice(start, start + len(rows))
        image = rows[f"f{frame.fields.image}"]
        tables.heights[part], tables.widths[part] = image["height"], image["width"]
        tables.modes[part], tables.pointers[part] = image["mode"], image["data_ptr"]
        tables.labels[part] = rows[f"f{frame.fields.label}"]
    file.seek(frame.table_start)
    _fill_lengths(file, frame, tables)
    _check(frame, tables)
    for name in Tables.__dataclass_fields__:
        getattr(tables, name).flags.writeable = False
    return tables


def _blocks(
    file: BinaryIO, dtype: np.dtype[Any], count: int, what: str
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for start in range(0, count, _ROWS_AT_ONCE):
        yield start, read_exactly(file, dtype, min(_ROWS_AT_ONCE, count - start), what)


def _fill_lengths(file: BinaryIO, frame: Frame, tables: Tables) -> None:
    """Set `lengths` from the allocations: the image's address must be there, under its sample's id."""
    count = (frame.num_file - frame.table_start) // ALLOCATION.itemsize
    ids, pointers, sizes = (np.empty(count, np.uint64) for _ in range(3))
    for start, rows in _blocks(file, ALLOCATION, count, "its allocation table"):
        part = slice(start, start + len(rows))
        ids[part], pointers[part], sizes[part] = rows["sample_id"], rows["ptr"], rows["size"]
    if not count:
        raise DataError("the allocation table is empty: FFCV's writer failed. Write the file again")
    # An empty region (a Bytes field of no bytes) shares its address with the next: the longest one counts.
    order = np.lexsort((sizes, pointers))
    pointers = pointers[order]
    places = np.searchsorted(pointers, tables.pointers, side="right") - 1  # -1, the last, differs as well
    _refuse(pointers[places] != tables.pointers, "its image has no entry in the allocation table")
    places = order[places]
    _refuse(
        ids[places] != np.arange(frame.num_samples, dtype=np.uint64), "its image belongs to another sample"
    )
    tables.lengths[:] = sizes[places]


def _check(frame: Frame, tables: Tables) -> None:
    modes, pointers, lengths = tables.modes, tables.pointers, tables.lengths
    _refuse((modes != JPEG) & (modes != RAW), "its image is neither JPEG (mode 0) nor raw (mode 1)")
    _refuse((tables.heights == 0) | (tables.widths == 0), "its image has no pixels")
    end = np.uint64(frame.table_start)
    _refuse(pointers < np.uint64(frame.rows_end), "its image is within the tables of the file")
    # Written so that no sum can wrap around: first pointers <= end, then the remaining space.
    _refuse(pointers > end, "its image is beyond the samples of the file")
    _refuse(lengths > end - pointers, "its image reaches beyond the samples of the file")
    raw_lengths = tables.heights.astype(np.uint64) * tables.widths * np.uint64(3)
    _refuse(
        (modes == RAW) & (lengths != raw_lengths), "the length of its raw image is not height x width x 3"
    )
    _refuse((modes == JPEG) & (lengths < np.uint64(_SHORTEST_JPEG)), "its JPEG image has fewer than 4 bytes")


def _refuse(bad: npt.NDArray[np.bool_], what: str) -> None:
    places = np.flatnonzero(bad)
    if len(places):
        more = f" (and the same in {len(places) - 1} others)" if len(places) > 1 else ""
        raise DataError(f"sample {places[0]}: {what}{more}. The file is damaged; write it again")
