"""What the labels of a list are: one class an image, 0 or 1 for each of several labels, or numbers.

| labels                                               | task        | read as                |
|------------------------------------------------------|-------------|------------------------|
| one column of text or whole numbers                  | classes     | int64 [N]              |
| one column of numbers, some with fractions           | regression  | float64 [N, 1]         |
| several names a cell (a separator, or lists)         | multi-label | float32 [N, K], 0 or 1 |
| several columns, or lists of numbers: all are 0 or 1 | multi-label | float32 [N, K], 0 or 1 |
| the same, some with fractions                        | regression  | float64 [N, K]         |

Whole numbers in vectors that are not all 0 or 1 may be counts, scores or marks of doubt: the user says which.
Numbers are float64 until they are standardised: float32 has steps of 128 s in the times of today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastpipe.errors import DataError
from fastpipe.storage import ImageList, from_csv, holds_lists
from fastpipe.train.config.groups import TableConfig, Task

Asked = Literal["auto"] | Task
Labelled = tuple[ImageList, Task, tuple[str, ...]]
_NOTHING: Mapping[str, str] = {}


def read_labelled(
    file: Path,
    table: TableConfig,
    asked: Asked,
    *,
    names: Sequence[str] | None = None,
    where: Mapping[str, str] = _NOTHING,
) -> Labelled:
    """The images of a file, what their labels are, and the names of the classes, labels or columns.

    names: those of the training images, which the labels must keep to; None: as the file has them. where: the
    column and value of the rows that are wanted. Raises DataError for labels that are not what `asked` says,
    and what `from_csv` raises.
    """
    options: dict[str, Any] = {"path": table.path, "where": where, "dtype": "float64"}
    lists = len(table.labels) == 1 and (table.separator is not None or holds_lists(file, table.labels[0]))
    if len(table.labels) > 1 or (asked == "regression" and not lists):
        images = from_csv(file, label=table.labels, **options)
    else:
        options |= {"label": table.labels[0], "labels": None if lists else "classes"}
        images = from_csv(file, classes=names, separator=table.separator, **options)
    values = np.asarray(images.label_values)
    if values.ndim > 1:
        return _of_vectors(file, table, asked, images, values, names)
    classes = tuple(images.classes)
    if asked == "multi-label":
        raise DataError(
            f"{str(file)!r} must have several labels an image for --task multi-label: several columns in "
            f"--table.label, or cells with several names and --table.separator. Found: one in "
            f"{_columns(table)}"
        )
    if asked == "auto" and _measures(classes, file, table):
        return read_labelled(file, table, "regression", where=where)
    return images, "classes", classes


def _measures(names: Sequence[str], file: Path, table: TableConfig) -> bool:
    """Whether the labels are numbers, and some have fractions. DataError if only some are."""
    numbers = [_number(name) for name in names]
    if all(number is None or number.is_integer() for number in numbers):
        _check_different(names, numbers, file, table)
        return False
    others = [name for name, number in zip(names, numbers, strict=True) if number is None]
    if others:
        raise DataError(
            f"{_columns(table)} of {str(file)!r} has numbers with fractions, and labels that are no numbers: "
            f"{', '.join(map(repr, others[:5]))}. Correct these, or give --task classes if each different "
            "text is a class"
        )
    return True


def _check_different(
    names: Sequence[str], numbers: Sequence[float | None], file: Path, table: TableConfig
) -> None:
    first: dict[float, str] = {}
    for name, number in zip(names, numbers, strict=True):
        if number is not None and (other := first.setdefault(number, name)) != name:
            raise DataError(
                f"{_columns(table)} of {str(file)!r} has {other!r} and {name!r}, which are the same number. "
                "Write them alike, or give --task classes if each different text is a class"
            )


def _number(text: str) -> float | None:
    """The finite number that `text` is, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _of_vectors(
    file: Path,
    table: TableConfig,
    asked: Asked,
    images: ImageList,
    values: npt.NDArray[Any],
    names: Sequence[str] | None,
) -> Labelled:
    if asked == "classes":
        raise DataError(
            f"{str(file)!r} must have one class in {_columns(table)} for each image. Found: several values"
        )
    found = tuple(images.classes) or tuple(map(str, range(values.shape[1])))
    if names is not None and tuple(names) != found:
        raise DataError(
            f"{str(file)!r} must have the {len(names)} labels of the training images in {_columns(table)}. "
            f"Found: {len(found)} labels, {', '.join(found[:5])}"
        )
    if table.separator is not None and (asked == "regression" or _measures(found, file, table)):
        raise DataError(
            f"{_columns(table)} of {str(file)!r} has several numbers in a cell, which cannot be read. Write "
            "them into several columns and name all of them in --table.label, or into lists in JSON lines"
        )
    task = _checked(file, table, asked, images, values)
    if task == "multi-label":
        images.label_values = values.astype(np.float32)
    return images, task, found


def _checked(
    file: Path, table: TableConfig, asked: Asked, images: ImageList, values: npt.NDArray[Any]
) -> Task:
    """What the vectors are. DataError where they are not what was asked for, or where that is not clear."""
    other = np.argwhere((values != 0.0) & (values != 1.0))
    if asked == "regression":
        return asked
    if not len(other):
        return "multi-label"
    if asked == "auto" and (values != np.floor(values)).any():
        return "regression"
    row, column = other[0].tolist()
    raise DataError(
        f"{str(file)!r} must have 0 or 1 for each label in {_columns(table)}. Found: {values[row, column]:g} "
        f"in {len(other)} places, first for {images.samples[row][0]!r}. Correct these, or give --task "
        "regression if labels are numbers"
    )


def _columns(table: TableConfig) -> str:
    names = ", ".join(map(repr, table.labels))
    return f"the column {names}" if len(table.labels) == 1 else f"the columns {names}"
