"""`from_csv`: the images and labels that a CSV, JSON lines or Parquet file lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastpipe.errors import ArgumentError, DataError, EmptyDatasetError
from fastpipe.storage.lists.cells import (
    KINDS,
    NUMBER_TYPES,
    LabelColumns,
    LabelKind,
    NumberType,
    columns_of,
    read_labels,
)
from fastpipe.storage.lists.csv_file import read_csv
from fastpipe.storage.lists.dataset import ImageList
from fastpipe.storage.lists.json_lines import read_json_lines
from fastpipe.storage.lists.labels import Classes
from fastpipe.storage.lists.listing import some
from fastpipe.storage.lists.parquet import read_parquet
from fastpipe.storage.lists.table import Table, Wanted

__all__ = ["columns_in", "from_csv", "holds_lists", "is_table"]

_CSV: Final = (".csv", ".tsv")
_JSON: Final = (".jsonl", ".ndjson")
_PARQUET: Final = (".parquet",)
ENDINGS: Final = (*_CSV, *_JSON, *_PARQUET)


def is_table(path: Any) -> bool:
    """Whether the name of the file says that it is CSV, JSON lines or Parquet."""
    name = os.fsdecode(path)
    return name.lower().endswith(ENDINGS) and not os.path.isdir(name)


def from_csv(
    file: str | os.PathLike[str],
    path: str = "path",
    label: LabelColumns = "label",
    transform: Callable[[Any], Any] | None = None,
    target_transform: Callable[[Any], Any] | None = None,
    *,
    labels: LabelKind | None = None,
    classes: Classes = None,
    separator: str | None = None,
    dtype: NumberType = "float32",
    where: Mapping[str, Any] | None = None,
    root: str | os.PathLike[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    check_files: bool = True,
) -> ImageList:
    """The images that a file lists, one a line: `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet`.

    path:      the column with the images' paths, relative to `root` (None: to the folder of the file).
    label:     the column with the label. A sequence of columns gives vectors float32 [K]; a dict of columns
               gives dicts; None: no labels, so a batch is `[images]`.
    labels:    None: text is a class, a column of whole numbers stays int64, other numbers become float32;
               a column with both is an error. "classes": each different text is a class, numbers too.
               "numbers": nothing but numbers. "text": kept as text. Lists, vectors and dicts need None.
    classes:   the names of the classes by number; None: the sorted names in the whole file, whatever `where`
               leaves of it. Give training's to validation: another name is an error. Whole numbers of which
               none is such a name are the numbers of the classes.
    separator: splits a cell into names ("cat|dog"): 0 or 1 for each class, float32 [K]; an empty cell names
               no class. Lists in JSON lines and Parquet are split already.
    dtype:     "float32", or "float64" for numbers such as times, of which float32 would drop the seconds.
    where:     columns and the value that rows must have, such as {"split": "train"}.
    delimiter, encoding: of a CSV; None: found from the header, and UTF-8 or what the byte order mark says.
    check_files: whether missing files are looked for now, all at once, with one listing of each folder.

    Raises ArgumentError for a column that is not there, with the columns that are; DataError for a file that
    cannot be read, with the lines at fault; MissingExtraError for Parquet without pyarrow.
    """
    name = os.path.expanduser(os.fsdecode(file))
    if labels is not None and labels not in KINDS:
        raise ArgumentError(f"labels must be None or one of {', '.join(map(repr, KINDS))}. Found: {labels!r}")
    if dtype not in NUMBER_TYPES:
        raise ArgumentError(f"dtype must be 'float32' or 'float64'. Found: {dtype!r}")
    wanted: dict[str, str] = {path: "path", **columns_of(label), **dict.fromkeys(where or {}, "where")}
    table = _read(name, wanted, delimiter, encoding)
    values, names = read_labels(table, label, kind=labels, classes=classes, separator=separator, dtype=dtype)
    chosen = _chosen(table, where or {})
    base = os.path.expanduser(os.fsdecode(root)) if root is not None else os.path.dirname(name)
    part = table.rows(chosen)
    paths = _paths(part, path)
    if check_files:
        _check_files(part, paths, base)
    return ImageList(
        paths,
        None if values is None else values[chosen],
        transform,
        target_transform,
        classes=False if labels == "text" or (classes is False and not names) else names or None,
        root=base,
    )


def columns_in(
    file: str | os.PathLike[str], path: str = "path", label: LabelColumns = "label"
) -> tuple[str, ...]:
    """The names of the columns of such a file, which must have those of `path` and `label`."""
    return tuple(_read(os.fsdecode(file), {path: "path", **columns_of(label)}, None, None).names)


def holds_lists(file: str | os.PathLike[str], column: str) -> bool:
    """Whether every cell of a column is a list, as JSON lines and Parquet may have."""
    cells = _read(os.fsdecode(file), {column: "label"}, None, None).columns[column]
    return all(isinstance(cell, list) for cell in cells)


def _read(file: str, wanted: Wanted, delimiter: str | None, encoding: str | None) -> Table:
    ending = os.path.splitext(file)[1].lower()
    if ending in _PARQUET:
        return read_parquet(file, wanted)
    if ending in _JSON:
        return read_json_lines(file, wanted, encoding=encoding)
    if ending in _CSV:
        return read_csv(file, wanted, delimiter=delimiter, encoding=encoding)
    raise ArgumentError(f"file must end in one of {', '.join(ENDINGS)}. Found: {file!r}")


def _chosen(table: Table, where: Mapping[str, Any]) -> list[int]:
    """The places of the rows that have the values of `where`."""
    chosen = list(range(len(table.numbers)))
    for column, value in where.items():
        cells, asked = table.columns[column], value
        if not table.typed:
            cells, asked = [cell.strip() for cell in cells], str(value)
        kept = [i for i in chosen if cells[i] == asked]
        if not kept:
            found = sorted({str(cells[i]) for i in chosen})
            raise EmptyDatasetError(
                f"where={dict(where)!r} leaves no image of {table.file!r}. {column!r} has the values: "
                f"{some([repr(one) for one in found], 10)}"
            )
        chosen = kept
    return chosen


def _paths(table: Table, column: str) -> list[str]:
    cells = table.columns[column]
    wrong = [
        f"{table.where(i)}: {str(cell)[:80]!r}"
        for i, cell in enumerate(cells)
        if not isinstance(cell, str) or not cell.strip() or "\0" in cell
    ]
    if wrong:
        raise DataError(
            f"the column {column!r} of {table.file!r} must hold the paths of files. Found: {some(wrong)}. "
            f"For images inside a Parquet file use the package datasets and fastpipe.from_hugging_face"
        )
    return list(cells)


def _check_files(table: Table, paths: Sequence[str], base: str) -> None:
    """Raise DataError that lists the files which are not there; each folder is listed once."""
    folders: dict[str, frozenset[str]] = {}
    missing = []
    for i, path in enumerate(paths):
        full = os.path.join(base, path)
        folder, name = os.path.split(full)
        if folder not in folders:
            folders[folder] = _names_in(folder)
        # A file system may find a name in other letters, or in a folder that it does not list.
        if name not in folders[folder] and not os.path.isfile(full):
            missing.append(f"{table.where(i)}: {path!r}")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} files named by {table.file!r} do not exist in {base or '.'!r}: "
            f"{some(missing)}. Correct the file, name another folder with root=, or pass check_files=False "
            f"to leave them to on_error"
        )


def _names_in(folder: str) -> frozenset[str]:
    """The files in a folder; links count as what they lead to."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()
