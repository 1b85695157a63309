"""The data to train on and to measure on, from the value of `--data`.

"demo", a name, a folder with train/ and val/     image folders, by fastpipe.storage.resolve
a folder with train.beton and val.beton           that file, measured on the other
x.beton                                           with its partner, or with a held-out share
x.csv, x.jsonl, x.parquet                         by a column `split`, or as x.beton
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage import NAMED, FolderIndex, Splits, is_beton, is_table, open_index, resolve
from fastpipe.train.betons import BetonPart, beton_parts, beton_splits, in_folder, split_in_name, whole
from fastpipe.train.config.groups import TableConfig, Task
from fastpipe.train.labels import Asked
from fastpipe.train.tables import TablePart, has_splits, table_splits, whole_table

_COLUMNS = TableConfig()
Images = FolderIndex | BetonPart | TablePart
_KNOWN = {"val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Indexes:
    """The splits of a data set, indexed. `test` is None if there is only `validation`.

    note: a sentence for the user about how they were found, or "". held_out: whether `validation` is a part
    of the training file.
    """

    train: Images
    validation: Images
    test: Images | None
    note: str = ""
    held_out: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, or of the labels or columns, by output."""
        return self.train.classes

    @property
    def task(self) -> Task:
        """What the labels are."""
        return task_of(self.train)


def task_of(images: Images) -> Task:
    """What the labels of a split are; only a list has others than one class an image."""
    return images.task if isinstance(images, TablePart) else "classes"


def open_data(data: str, *, held_out: float, table: TableConfig = _COLUMNS, task: Asked = "auto") -> Indexes:
    """The splits of `data`. Raises DataError when their classes differ, or there is only one class.

    Also ArgumentError for another `task` than classes where an image has one class.
    """
    path = Path(os.path.expanduser(data))
    if is_table(data):
        found = table_splits(path, held_out, table, task)
        return _checked(Indexes(**found._asdict()))
    _check_task(data, task)
    train = path if is_beton(data) else _train_in(data, path)
    if train is None:
        return open_indexes(resolve(data))
    files = beton_splits(train)
    if files is not None:
        parts = [whole(file) if file is not None else None for file in files]
        assert parts[0] is not None and parts[1] is not None
        note = "" if train != path else f"validation: {str(files[1])!r}, next to {train.name}"
        return _checked(Indexes(train=parts[0], validation=parts[1], test=parts[2], note=note))
    learnt, held = beton_parts(train, held_out)
    note = (
        f"validation: {len(held)} of {len(learnt) + len(held)} images are held out of {str(train)!r}, "
        f"{held_out:.0%} of each class (--held-out), the same ones in every run"
    )
    return _checked(Indexes(train=learnt, validation=held, test=None, note=note, held_out=True))


def _check_task(data: str, task: Asked) -> None:
    if task not in ("auto", "classes"):
        raise ArgumentError(
            f"task must be classes for {data!r}, where each image has one. Found: {task!r}. Labels of "
            "another kind are read from a list: a .csv, .jsonl or .parquet file"
        )


def _train_in(data: str, folder: Path) -> Path | None:
    """The train*.beton in a folder without train/; a train/ would be used instead."""
    if data in ("demo", *NAMED) or not folder.is_dir() or (folder / "train").is_dir():
        return None
    return in_folder(folder)


def open_indexes(splits: Splits) -> Indexes:
    """The indexes of image folders. Raises DataError when their classes differ, or there is only one."""
    return _checked(
        Indexes(
            train=open_index(splits.train),
            validation=open_index(splits.validation),
            test=open_index(splits.test) if splits.test is not None else None,
        )
    )


def _checked(indexes: Indexes) -> Indexes:
    for name, other in (("validation", indexes.validation), ("test", indexes.test)):
        if other is not None and not same_classes(indexes.classes, other):
            different = sorted(set(indexes.classes) ^ set(other.classes))
            raise DataError(
                f"the {name} split {other.root!r} has other classes than {indexes.train.root!r}: "
                f"{different[:5]}. Every split must hold the same classes"
            )
    if indexes.task == "classes" and len(indexes.classes) < 2:
        raise DataError(
            f"{indexes.train.root!r} has one class ({indexes.classes[0]!r}): there is nothing to learn"
        )
    return indexes


def same_classes(classes: tuple[str, ...], images: Images) -> bool:
    """Whether labels mean the same. A file of stock FFCV has numbers, up to the largest label in it."""
    found = images.classes
    return found == classes or (images.numbered and found == classes[: len(found)])


def splits_to_measure(
    data: str,
    *,
    trained_on: str | None,
    held_out: float,
    table: TableConfig = _COLUMNS,
    task: Asked = "auto",
    names: Sequence[str] | None = None,
) -> Mapping[str, Images]:
    """The images to evaluate on, by the name of their split; no training images are needed.

    If `data` has training images: the splits that a run on it measures. Otherwise val/, validation/ and
    test/, or the files of those names; otherwise `data` itself, under the name "data". `task` and `names` are
    the model's: a list need not have all of its labels.
    """
    path = Path(os.path.expanduser(data))
    if is_table(data) and not has_splits(path, table) and not _same_file(data, trained_on):
        known = names if task != "regression" else None
        return {_KNOWN.get(split_in_name(path) or "", "data"): whole_table(path, table, task, names=known)}
    if is_beton(data) and beton_splits(path) is None and not _same_file(data, trained_on):
        return {_KNOWN.get(split_in_name(path) or "", "data"): whole(path)}
    is_folder = not is_beton(data) and not is_table(data) and data not in ("demo", *NAMED) and path.is_dir()
    if is_folder and not (path / "train").is_dir() and in_folder(path) is None:
        return _without_train(path)
    indexes = open_data(data, held_out=held_out, table=table, task=task)
    found = {"validation": indexes.validation, "test": indexes.test}
    return {name: images for name, images in found.items() if images is not None}


def _same_file(data: str, trained_on: str | None) -> bool:
    return trained_on is not None and os.path.realpath(os.path.expanduser(trained_on)) == os.path.realpath(
        os.path.expanduser(data)
    )


def _without_train(folder: Path) -> Mapping[str, Images]:
    found: dict[str, Images] = {}
    for name, split in _KNOWN.items():
        file = in_folder(folder, name)
        for path in (folder / name, file):
            if path is None or not path.exists():
                continue
            if split in found:
                raise DataError(
                    f"{str(folder)!r} holds {found[split].root!r} and {str(path)!r}, both for {split}. Name "
                    "one of them"
                )
            found[split] = whole(path) if is_beton(path) else open_index(path)
    return found or {"data": open_index(folder)}
