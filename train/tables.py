"""CSV, JSON lines and Parquet files as training data: columns `path` and `label`, perhaps `split`.

Without that column a file may have a partner, as a `.beton` has: train.csv and val.csv. Else a share is held
out.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Subset

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.storage import ImageList, columns_in, from_csv
from fastpipe.train.betons import beton_splits, dataset_of, held_out_of
from fastpipe.types import IntArray

_SPLIT = "split"
_VALUES = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}


@dataclass(frozen=True, kw_only=True, eq=False)
class TablePart:
    """Images that a file names: those of `ids`, or all."""

    file: str
    images: ImageList
    ids: IntArray | None = None
    numbered: bool = False

    @property
    def root(self) -> str:
        """The file."""
        return self.file

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        return tuple(self.images.classes)

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


def has_splits(file: Path) -> bool:
    """Whether the file says what to measure on: by a column, or by a partner next to it."""
    return _SPLIT in columns_in(file) or beton_splits(file) is not None


def whole_table(file: Path, **options: Any) -> TablePart:
    """All images of a file, or those that from_csv's options choose. DataError unless labels are classes."""
    images = from_csv(file, labels="classes", **options)
    values = images.label_values
    if values is None or values.ndim > 1 or _measures(images.classes):
        raise DataError(
            f"{str(file)!r} must have one class in its column 'label' for each image. Found: "
            f"{'several values' if values is not None and values.ndim > 1 else 'numbers with fractions'}"
        )
    return TablePart(file=os.fspath(file), images=images)


def _measures(names: list[str]) -> bool:
    """Whether the names are numbers, and some have fractions: values, not classes."""
    try:
        return any(float(name) != int(float(name)) for name in names)
    except (ValueError, OverflowError):
        return False


def table_splits(file: Path, share: float) -> TableSplits:
    """The training images of a file and those to measure on. Raises what `from_csv` raises."""
    if _SPLIT in columns_in(file):
        return _by_column(file)
    files = beton_splits(file)
    if files is None:
        return _held_out(file, share)
    train = whole_table(file)
    validation, test = (
        None if other is None else whole_table(other, classes=train.classes) for other in files[1:]
    )
    assert validation is not None
    note = f"validation: {validation.file!r}, next to {file.name}"
    return TableSplits(train, validation, test, note, held_out=False)


def _by_column(file: Path) -> TableSplits:
    found = {}
    for value in _split_values(file):
        (name,) = (name for name, values in _VALUES.items() if value in values)
        if name in found:
            raise DataError(
                f"the column 'split' of {str(file)!r} has several values for {name}: {_VALUES[name]}"
            )
        found[name] = whole_table(file, where={_SPLIT: value})
    if "train" not in found or len(found) < 2:
        raise EmptyDatasetError(
            f"the column 'split' of {str(file)!r} must have train, and val or test. Found: "
            f"{', '.join(found) or 'none of them'}"
        )
    validation, test = found.get("validation"), found.get("test")
    note = "validation: by the column 'split'"
    if validation is None:
        assert test is not None
        return TableSplits(found["train"], test, None, note, held_out=False)
    return TableSplits(found["train"], validation, test, note, held_out=False)


def _split_values(file: Path) -> list[str]:
    """The values of the column `split`, sorted. DataError for one that names no part."""
    column = from_csv(file, label=_SPLIT, labels="text", check_files=False).label_values
    found = sorted(set() if column is None else set(column.tolist()))
    known = [value for values in _VALUES.values() for value in values]
    unknown = [value for value in found if value not in known]
    if unknown:
        raise DataError(
            f"the column 'split' of {str(file)!r} must have the values {', '.join(map(repr, known))}. Found: "
            f"{', '.join(map(repr, unknown[:5]))}"
        )
    return found


def _held_out(file: Path, share: float) -> TableSplits:
    whole = whole_table(file)
    is_held = held_out_of(np.asarray(whole.images.label_values), share)
    if not is_held.any():
        raise EmptyDatasetError(
            f"{str(file)!r} has one image of each class, so none can be held out to measure accuracy on. Put "
            f"val{file.suffix} next to train{file.suffix}, or add a column 'split'"
        )
    train, held = (
        TablePart(file=whole.file, images=whole.images, ids=np.flatnonzero(chosen))
        for chosen in (~is_held, is_held)
    )
    note = (
        f"validation: {len(held)} of {len(whole)} images are held out of {str(file)!r}, {share:.0%} of each "
        f"class (--held-out), the same ones in every run"
    )
    return TableSplits(train, held, None, note, held_out=True)
