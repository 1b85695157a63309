"""Reads columns of a file with one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage.lists.listing import some
from fastpipe.storage.lists.table import Table, Wanted, cannot_read, check_columns, nothing_in


def read_json_lines(file: str, wanted: Wanted, *, encoding: str | None) -> Table:
    """The wanted keys of every object. The first one says which keys there are; others need the wanted ones.

    encoding: None: UTF-8, with or without a byte order mark. Raises ArgumentError and DataError.
    """
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    names: list[str] = []
    numbers: list[int] = []
    lacking: list[str] = []
    for number, pairs in _objects(file, encoding or "utf-8-sig"):
        if not names:
            names = [key for key, _ in pairs]
            check_columns(file, wanted, names)
        found = dict(pairs)
        if any(key not in found for key in wanted) or len(found) < len(pairs):
            lacking.append(_fault(number, pairs, wanted))
            continue
        numbers.append(number)
        for name in wanted:
            columns[name].append(found[name])
    if lacking:
        raise DataError(f"every line of {file!r} must have each wanted key once. {some(lacking)}")
    if not numbers:
        raise nothing_in(file)
    return Table(file=file, names=names, columns=columns, numbers=numbers, typed=True)


def _fault(number: int, pairs: list[tuple[str, Any]], wanted: Wanted) -> str:
    keys = [key for key, _ in pairs]
    lacks = [key for key in wanted if key not in keys]
    if lacks:
        return f"line {number} lacks {', '.join(map(repr, lacks))}"
    twice = next(key for key in keys if keys.count(key) > 1)
    return f"line {number} has {twice!r} twice"


def _objects(file: str, encoding: str) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """The pairs of each line that is not blank, so that a key which occurs twice is seen."""
    try:
        with open(file, encoding=encoding) as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield number, _pairs(file, number, line)
    except LookupError as error:
        raise ArgumentError(f"encoding must be one that Python knows. Found: {encoding!r}") from error
    except UnicodeError as error:
        raise DataError(f"{file!r} is not text in {encoding}: {error}. Pass encoding=") from error
    except OSError as error:
        raise cannot_read(file, error) from error


def _pairs(file: str, number: int, line: str) -> list[tuple[str, Any]]:
    outer: list[tuple[str, Any]] | None = None

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal outer
        outer = pairs  # the outermost object is the last one to be closed
        return dict(pairs)

    try:
        value = json.loads(line, object_pairs_hook=keep)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"line {number} of {file!r} is not JSON: {error}. Expected one object a line"
        ) from error
    if not isinstance(value, dict) or outer is None:
        raise DataError(
            f"line {number} of {file!r} must be a JSON object, such as "
            f'{{"path": "a.jpg", "label": "cat"}}. Found: {type(value).__name__}'
        )
    return outer
