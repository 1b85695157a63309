"""Reads columns of a CSV file: any delimiter, quoting, encoding; every line is checked."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

from fastpipe.errors import ArgumentError, DataError, FastpipeError
from fastpipe.storage.lists.listing import some
from fastpipe.storage.lists.table import Table, Wanted, cannot_read, check_columns, nothing_in

_DELIMITERS: Final = (",", ";", "\t", "|")
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_csv(file: str, wanted: Wanted, *, delimiter: Any, encoding: str | None) -> Table:
    """The wanted columns. delimiter: None: the one of comma, semicolon, tab and bar that gives them.

    encoding: None: UTF-8, or what the byte order mark says. A line break may be quoted; a row has the number
    of the line where it begins. Raises ArgumentError and DataError.
    """
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise ArgumentError(f"delimiter must be one character, or None to find it. Found: {delimiter!r}")
    encoding = encoding or _marked(file)
    delimiter = delimiter or _delimiter(file, wanted, encoding)
    with _opened(file, encoding) as handle:
        reader = csv.reader(handle, delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = _numbered(reader)
        _, header = next(rows, (0, []))
        if not header:
            raise nothing_in(file)
        names = [name.strip() for name in header]
        check_columns(file, wanted, names)
        places = {name: names.index(name) for name in wanted}
        columns: dict[str, list[str]] = {name: [] for name in wanted}
        numbers: list[int] = []
        ragged: list[str] = []
        for number, row in rows:
            if len(row) != len(names):
                ragged.append(f"line {number}: {len(row)}")
                continue
            numbers.append(number)
            for name, place in places.items():
                columns[name].append(row[place])
    if ragged:
        raise DataError(
            f"{file!r} has {len(names)} fields in its header, and another number in {some(ragged)}. Quote "
            f"fields that contain the delimiter {delimiter!r}"
        )
    return Table(file=file, names=names, columns=columns, numbers=numbers, typed=False)


def _numbered(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its first line."""
    begin = 1
    for row in reader:
        if row:
            yield begin, row
        begin = reader.line_num + 1  # type: ignore[attr-defined]  # of csv.reader


def _delimiter(file: str, wanted: Wanted, encoding: str) -> str:
    """The one whose header has the most of the wanted columns; of several, the one with the most fields."""
    headers: dict[str, Sequence[str]] = {}
    for delimiter in _DELIMITERS:
        with _opened(file, encoding) as handle:
            header = next((row for row in csv.reader(handle, delimiter=delimiter) if row), [])
        headers[delimiter] = [name.strip() for name in header]
    return max(_DELIMITERS, key=lambda one: (len(wanted.keys() & {*headers[one]}), len(headers[one])))


def _marked(file: str) -> str:
    try:
        with open(file, "rb") as handle:
            head = handle.read(4)
    except OSError as error:
        raise cannot_read(file, error) from error
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), "utf-8")


@contextmanager
def _opened(file: str, encoding: str) -> Iterator[TextIO]:
    """The file as text. Errors in its bytes or quoting become DataError with the line."""
    try:
        with open(file, encoding=encoding, newline="") as handle:
            yield handle
    except FastpipeError:  # of whoever reads; an EmptyDatasetError is an OSError as well
        raise
    except LookupError as error:
        if "encoding" not in str(error):
            raise
        raise ArgumentError(f"encoding must be one that Python knows. Found: {encoding!r}") from error
    except UnicodeError as error:
        raise DataError(
            f"{file!r} is not text in {encoding}: {error}. Pass encoding=: files of spreadsheets are often "
            f"'cp1252' or 'utf-16'"
        ) from error
    except csv.Error as error:
        raise DataError(f"{file!r} is not valid CSV: {error}. Check its quotes") from error
    except OSError as error:
        raise cannot_read(file, error) from error
