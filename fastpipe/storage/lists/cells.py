"""From the cells of label columns to labels: numbers, class numbers, vectors, dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage.lists.labels import Classes, Labelling, labelling, numbered
from fastpipe.storage.lists.listing import some
from fastpipe.storage.lists.table import Table

LabelColumns = str | Sequence[str] | Mapping[str, str] | None
LabelKind = Literal["classes", "numbers", "text"]
KINDS: Final = get_args(LabelKind)
NumberType = Literal["float32", "float64"]
NUMBER_TYPES: Final = get_args(NumberType)
_MOST = float(np.finfo(np.float32).max)
_WHOLE = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def columns_of(label: LabelColumns) -> dict[str, str]:
    """The columns that `label` names, each with the words for the argument."""
    if label is None:
        return {}
    names = (
        [label] if isinstance(label, str) else [*(label.values() if isinstance(label, Mapping) else label)]
    )
    if not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(
            f"label must be the name of a column, a sequence or a dict of names, or None. Found: {label!r}"
        )
    if len(set(names)) < len(names):
        raise ArgumentError(f"label must name each column once. Found: {label!r}")
    return dict.fromkeys(names, "label")


def read_labels(
    table: Table,
    label: LabelColumns,
    *,
    kind: LabelKind | None,
    classes: Classes,
    separator: str | None,
    dtype: NumberType = "float32",
) -> Labelling:
    """The labels of all rows, and the names of the classes. See `from_csv` for the rules."""
    if label is None:
        _check_no_kind(kind, "there is no label")
        return labelling(None, classes, table.where)
    if isinstance(label, str):
        # With a separator, nothing between two delimiters is an image of no class; null is a lack.
        cells = _filled(table, label, empty_text=separator is not None)
        if separator is not None or _are_lists(table, label, cells):
            _check_no_kind(kind, "a label is a list")
            return _several(table, label, cells, separator, classes, dtype)
        return _one(table, label, cells, kind, classes, dtype)
    if classes not in (None, False) or separator is not None:
        raise ArgumentError("classes and separator must be None where label names several columns")
    _check_no_kind(kind, "label names several columns")
    if isinstance(label, Mapping):
        return _dicts(table, label), ()
    vectors = np.empty((len(table.numbers), len(label)), dtype=dtype)
    for place, column in enumerate(label):
        vectors[:, place] = _numbers(table, column, _filled(table, column), dtype)
    return vectors, tuple(label)


def _check_no_kind(kind: LabelKind | None, why: str) -> None:
    if kind is not None:
        raise ArgumentError(f"labels must be None where {why}. Found: {kind!r}")


def _filled(table: Table, column: str, *, empty_text: bool = False) -> list[Any]:
    """The cells without the white space around text. DataError lists empty ones."""
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in table.columns[column]]
    empty = [
        table.where(i) for i, cell in enumerate(cells) if cell is None or (cell == "" and not empty_text)
    ]
    if empty:
        raise DataError(f"the column {column!r} of {table.file!r} has no label in {some(empty)}")
    return cells


def _are_lists(table: Table, column: str, cells: Sequence[Any]) -> bool:
    """Whether all labels are lists. DataError if some are: their text would be the name of a class."""
    others = [i for i, cell in enumerate(cells) if not isinstance(cell, list)]
    if others and len(others) < len(cells):
        found = some([f"{table.where(i)}: {cells[i]!r}" for i in others])
        raise DataError(
            f"the column {column!r} of {table.file!r} must have lists in every row, or in none. Found no "
            f'list in {found}. Write ["cat"] for an image with one label'
        )
    return not others


def _one(
    table: Table,
    column: str,
    cells: list[Any],
    kind: LabelKind | None,
    classes: Classes,
    dtype: NumberType,
) -> Labelling:
    """One label a row: a class if it is text, or a number."""
    is_text = all(isinstance(cell, str) for cell in cells)
    if kind is not None:
        _check_plain(table, column, cells)
    if kind == "text" or classes is False:
        return labelling([_text_of(cell) for cell in cells], False, table.where)
    names = classes or None
    if kind == "classes" or (kind is None and is_text and names and not _are_numbers_of(names, cells, table)):
        return labelling([_text_of(cell) for cell in cells], names, table.where)
    if not is_text and all(isinstance(cell, dict) for cell in cells):
        return labelling(cells, classes, table.where)
    if kind is None and is_text and (table.typed or not any(map(_is_number, cells))):
        return labelling(cells, names, table.where)
    return labelling(_numbers(table, column, cells, dtype), names, table.where)


def _check_plain(table: Table, column: str, cells: Sequence[Any]) -> None:
    wrong = [
        f"{table.where(i)}: {cell!r}"
        for i, cell in enumerate(cells)
        if not isinstance(cell, str | int | float) or cell != cell  # NaN is not equal to itself
    ]
    if wrong:
        raise DataError(
            f"the column {column!r} of {table.file!r} must have text or numbers. Found: {some(wrong)}"
        )


def _text_of(cell: str | int | float) -> str:
    """The name of a class; 1 and 1.0 are the same one."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _are_numbers_of(names: Sequence[str], cells: Sequence[str], table: Table) -> bool:
    """Whether text without a type, such as CSV's, holds the numbers of the classes and not their names."""
    return not table.typed and all(map(_is_whole, cells)) and not {*cells} & {*names}


def _is_number(cell: Any) -> bool:
    """Whether it is a number that a float32 holds, or a whole number."""
    if isinstance(cell, str) and _NUMBER.fullmatch(cell) is None:
        return False
    return isinstance(cell, str | int | float) and (_is_whole(cell) or abs(float(cell)) <= _MOST)


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, int) or (isinstance(cell, str) and _WHOLE.fullmatch(cell) is not None)


def _numbers(table: Table, column: str, cells: list[Any], dtype: NumberType) -> npt.NDArray[Any]:
    """int64 [N] if all are whole, else `dtype` [N]. DataError lists the others."""
    wrong = [f"{table.where(i)}: {cell!r}" for i, cell in enumerate(cells) if not _is_number(cell)]
    if wrong:
        raise DataError(
            f"the column {column!r} of {table.file!r} has numbers, and in {some(wrong)}. Correct these, or "
            f"pass labels='classes' (each different text is a class) or labels='text'"
        )
    if all(map(_is_whole, cells)):
        try:
            return np.array([int(cell) for cell in cells], dtype=np.int64)
        except OverflowError as error:
            raise DataError(
                f"the column {column!r} of {table.file!r} has whole numbers that do not fit into int64. Pass "
                f"labels='classes' or labels='text'"
            ) from error
    return np.array([float(cell) for cell in cells], dtype=dtype)


def _several(
    table: Table,
    column: str,
    cells: list[Any],
    separator: str | None,
    classes: Classes,
    dtype: NumberType,
) -> Labelling:
    """Lists: of names, which become 0 or 1 for each class, float32 [N, K]; of numbers, `dtype` [N, K]."""
    lists = [_split(table, i, column, cell, separator) for i, cell in enumerate(cells)]
    if all(isinstance(one, str) for each in lists for one in each):
        flat = [one for each in lists for one in each]
        owner = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
        if not flat:
            raise DataError(f"the column {column!r} of {table.file!r} names no class")
        numbers, names = numbered(flat, classes or (), lambda i: table.where(int(owner[i])))
        hot = np.zeros((len(lists), len(names)), dtype=np.float32)
        hot[owner, numbers] = 1.0
        return hot, names
    width = len(lists[0])
    wrong = [
        f"{table.where(i)}: {each!r}"
        for i, each in enumerate(lists)
        if len(each) != width or not all(map(_is_number, each))
    ]
    if wrong:
        raise DataError(
            f"the column {column!r} of {table.file!r} must have lists of names, or lists of {width} numbers "
            f"as in {table.where(0)}. Found: {some(wrong)}"
        )
    return labelling(np.array(lists, dtype=dtype), None, table.where)


def _split(table: Table, i: int, column: str, cell: Any, separator: str | None) -> list[Any]:
    if isinstance(cell, str) and separator is not None:
        return [part.strip() for part in cell.split(separator) if part.strip()]
    if isinstance(cell, list):
        parts = [part.strip() if isinstance(part, str) else part for part in cell]
        if "" in parts:
            raise DataError(
                f"the column {column!r} of {table.file!r} must have names in its lists. Found in "
                f"{table.where(i)}: {cell!r}, with an empty one"
            )
        return parts
    raise DataError(
        f"the column {column!r} of {table.file!r} must have text to split, or lists. Found in "
        f"{table.where(i)}: {cell!r}"
    )


def _dicts(table: Table, label: Mapping[str, str]) -> npt.NDArray[Any]:
    """A dict for each row; a column of text stays text, since several columns have no one list of classes."""
    parts = {}
    for key, column in label.items():
        cells = _filled(table, column)
        is_number = any(map(_is_number, cells)) and not (table.typed and isinstance(cells[0], str))
        parts[key] = _numbers(table, column, cells, "float32").tolist() if is_number else cells
    found = np.empty(len(table.numbers), dtype=object)
    for i in range(len(found)):
        found[i] = {key: values[i] for key, values in parts.items()}
    return found
