"""CSV, JSON lines and Parquet files as training data: columns of paths and labels, perhaps one of splits.

Without that column a file may have a partner, as a `.beton` has: train.csv and val.csv. Else a share is held
out. labels.py decides what the labels are.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Subset

from fastpipe.errors import ArgumentError, DataError, EmptyDatasetError, nearest
from fastpipe.storage import ImageList, columns_in, from_csv
from fastpipe.train.betons import beton_splits, dataset_of, held_out_of
from fastpipe.train.config.groups import TableConfig, Task
from fastpipe.train.labels import Asked, read_labelled
from fastpipe.train.listed import again_words, first_places, shared_words
from fastpipe.types import IntArray

_VALUES = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}
_USUAL = TableConfig()
_ALL: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class TablePart:
    """Images that a file names: those of `ids`, or all. `classes` are the names of the outputs."""

    file: str
    images: ImageList
    task: Task = "classes"
    classes: tuple[str, ...]
    ids: IntArray | None = None
    numbered: bool = False

    @property
    def root(self) -> str:
        """The file."""
        return self.file

    @property
    def labels(self) -> npt.NDArray[Any]:
        """int64 [N]; float32 [N, K], 0 or 1 for several labels; float64 [N, K] for numbers."""
        values = np.asarray(self.images.label_values)
        return values if self.ids is None else values[self.ids]

    @property
    def paths(self) -> list[str]:
        """The files."""
        every = [path for path, _ in self.images.samples]
        return every if self.ids is None else [every[i] for i in self.ids.tolist()]

    def __len__(self) -> int:
        return len(self.images) if self.ids is None else len(self.ids)


@dataset_of.register
def _(images: TablePart, transform: Callable[[Any], Any]) -> Any:
    all_of_it = copy.copy(images.images)
    all_of_it.transform = transform
    return all_of_it if images.ids is None else Subset(all_of_it, images.ids.tolist())


class TableSplits(NamedTuple):
    """The parts of a file. `held_out`: whether `validation` is a part that the file itself does not name."""

    train: TablePart
    validation: TablePart
    test: TablePart | None
    note: str
    held_out: bool


def has_splits(file: Path, table: TableConfig = _USUAL) -> bool:
    """Whether the file says what to measure on: by a column, or by a partner next to it."""
    return _has_split_column(file, table) or beton_splits(file) is not None


def _has_split_column(file: Path, table: TableConfig) -> bool:
    columns = columns_in(file, table.path, table.labels)
    if table.split not in columns and table.split != _USUAL.split:
        raise ArgumentError(
            f"table.split must name a column of {str(file)!r}. Found: {table.split!r}. Its columns are "
            f"{', '.join(map(repr, columns[:40]))}.{nearest(table.split, columns)}"
        )
    return table.split in columns


def whole_table(
    file: Path,
    table: TableConfig = _USUAL,
    task: Asked = "auto",
    *,
    names: Sequence[str] | None = None,
    where: Mapping[str, str] = _ALL,
) -> TablePart:
    """All images of a file, or those of `where`, with labels as `task` says.

    names: those of the training images, which labels must keep to. where: columns and their values.
    Raises DataError for labels that are something else.
    """
    images, found, classes = read_labelled(file, table, task, names=names, where=where)
    return TablePart(file=os.fspath(file), images=images, task=found, classes=classes)


def table_splits(file: Path, share: float, table: TableConfig = _USUAL, task: Asked = "auto") -> TableSplits:
    """The training images of a file and those to measure on. Raises what `from_csv` raises."""
    if _has_split_column(file, table):
        return _by_column(file, table, task)
    files = beton_splits(file)
    if files is None:
        return _held_out(file, share, table, task)
    train = whole_table(file, table, task)
    validation, test = (
        None if other is None else whole_table(other, table, train.task, names=train.classes)
        for other in files[1:]
    )
    assert validation is not None
    note = f"validation: {validation.file!r}, next to {file.name}"
    return _noted(TableSplits(train, validation, test, note, held_out=False))


def _noted(splits: TableSplits) -> TableSplits:
    """With what is strange about the files of its parts added to the note."""
    paths = splits.train.paths  # a million of them are spelt out once
    words = [splits.note, *again_words(paths, splits.train.labels)]
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        words += [] if part is None else shared_words(paths, part.paths, name)
    return splits._replace(note=". ".join(words))


def _by_column(file: Path, table: TableConfig, task: Asked) -> TableSplits:
    column = table.split
    values: dict[str, str] = {}
    for value in _split_values(file, table):
        (name,) = (name for name, words in _VALUES.items() if value in words)
        if name in values:
            raise DataError(
                f"the column {column!r} of {str(file)!r} has several values for {name}: {_VALUES[name]}"
            )
        values[name] = value
    if "train" not in values or len(values) < 2:
        raise EmptyDatasetError(
            f"the column {column!r} of {str(file)!r} must have train, and val or test. Found: "
            f"{', '.join(values) or 'none of them'}"
        )
    train = whole_table(file, table, task, where={column: values.pop("train")})
    found = {
        name: whole_table(file, table, train.task, names=train.classes, where={column: value})
        for name, value in values.items()
    }
    validation, test = found.get("validation"), found.get("test")
    note = f"validation: by the column {column!r}"
    if validation is None:
        assert test is not None
        return _noted(TableSplits(train, test, None, note, held_out=False))
    return _noted(TableSplits(train, validation, test, note, held_out=False))


def _split_values(file: Path, table: TableConfig) -> list[str]:
    """The values of the split column, sorted. DataError for one that names no part."""
    options: dict[str, Any] = {"path": table.path, "labels": "text", "check_files": False}
    column = from_csv(file, label=table.split, **options).label_values
    found = sorted(set() if column is None else set(column.tolist()))
    known = [value for values in _VALUES.values() for value in values]
    unknown = [value for value in found if value not in known]
    if unknown:
        raise DataError(
            f"the column {table.split!r} of {str(file)!r} must have the values "
            f"{', '.join(map(repr, known))}. Found: {', '.join(map(repr, unknown[:5]))}"
        )
    return found


def _held_out(file: Path, share: float, table: TableConfig, task: Asked) -> TableSplits:
    whole = whole_table(file, table, task)
    is_class = whole.task == "classes"
    is_held = held_out_of(whole.labels if is_class else np.zeros(len(whole), dtype=np.int64), share)
    is_held = is_held[first_places(whole.paths)]  # an image that is listed twice is not in both parts
    if not is_held.any() or is_held.all():
        raise EmptyDatasetError(
            f"{str(file)!r} has one image{' of each class' if is_class else ''}, so none can be held out to "
            f"measure on. Put val{file.suffix} next to train{file.suffix}, or add a column {table.split!r}"
        )
    train, held = (
        TablePart(file=whole.file, images=whole.images, task=whole.task, classes=whole.classes, ids=ids)
        for ids in (np.flatnonzero(~is_held), np.flatnonzero(is_held))
    )
    note = (
        f"validation: {len(held)} of {len(whole)} images are held out of {str(file)!r}, {share:.0%} of "
        f"{'each class' if is_class else 'them'} (--held-out), the same ones in every run"
    )
    return TableSplits(
        train, held, None, ". ".join([note, *again_words(whole.paths, whole.labels)]), held_out=True
    )
