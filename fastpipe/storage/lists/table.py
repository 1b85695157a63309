"""Some columns of a file with one image a line, whatever the format of the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastpipe.errors import ArgumentError, DataError, EmptyDatasetError, nearest

# The columns that are wanted, each with the argument that named it.
Wanted = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells of the wanted columns, as long as `numbers`: where in the file each row is, counted from 1.

    names: of all columns. typed: the file distinguishes numbers from text; without types, all cells are text.
    """

    file: str
    names: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    numbers: Sequence[int]
    typed: bool
    unit: Literal["line", "row"] = "line"

    def __post_init__(self) -> None:
        if not len(self.numbers):
            raise EmptyDatasetError(f"{self.file!r} names no image: it has columns, and no {self.unit} below")

    def where(self, i: int) -> str:
        """Words for the place of a row in the file."""
        return f"{self.unit} {self.numbers[i]}"

    def rows(self, chosen: Sequence[int]) -> Table:
        """The rows at these places."""
        columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        numbers = [self.numbers[i] for i in chosen]
        return replace(self, columns=columns, numbers=numbers)


def check_columns(file: str, wanted: Wanted, found: Sequence[str]) -> None:
    """Raise ArgumentError for a column that is not there, DataError for one that is there twice."""
    for column, argument in wanted.items():
        if column not in found:
            listed = ", ".join(repr(name) for name in found[:40])
            raise ArgumentError(
                f"{argument} must name a column of {file!r}. Found: {column!r}. Its {len(found)} columns are "
                f"{listed}{', ...' if len(found) > 40 else ''}.{nearest(column, found)}"
            )
        if found.count(column) > 1:
            raise DataError(
                f"{file!r} has {found.count(column)} columns {column!r}, so it is not known which one "
                f"{argument} means. Rename or remove all but one"
            )


def cannot_read(file: str, error: OSError) -> DataError:
    """The error for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return EmptyDatasetError(
            f"the file {file!r} does not exist (current folder: {os.getcwd()!r}). Check the path"
        )
    return DataError(f"the file {file!r} cannot be read ({error.strerror or error})")


def nothing_in(file: str) -> EmptyDatasetError:
    """The error for a file without a byte, or with blank lines only."""
    return EmptyDatasetError(f"{file!r} is empty: it has no line with the names of columns")
