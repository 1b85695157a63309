"""Finds the splits of a data set: train/ and one of val/, validation/ or test/."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.storage.index import IMG_EXTENSIONS
from fastpipe.storage.scan import list_classes

__all__ = ["Splits", "find_splits"]

_VALIDATION = ("val", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The image folders of a data set. `test` is None if `validation` is the only other split."""

    train: Path
    validation: Path
    test: Path | None = None


def find_splits(root: str | os.PathLike[str]) -> Splits:
    """Return the splits in `root`: train/ with val/ or validation/, else with test/ instead.

    Raises EmptyDatasetError if one is missing, DataError if `root` is a file or a class folder tree, if both
    val/ and validation/ exist, or if the splits differ in their classes.
    """
    folder = Path(os.path.expanduser(os.fsdecode(root)))
    names = _folders(folder)
    if "train" not in names:
        raise _no_train(folder, names)
    validation = [name for name in _VALIDATION if name in names]
    if len(validation) == 2:
        raise DataError(f"{str(folder)!r} contains both val/ and validation/. Rename or remove one of them.")
    has_test = "test" in names
    if not validation and not has_test:
        raise EmptyDatasetError(
            f"{str(folder)!r} contains train/ but no val/, validation/ or test/ to measure accuracy on. "
            f"Found: {_some(names)}. Move some images of each class to {str(folder / 'val')!r}."
        )
    splits = Splits(
        train=folder / "train",
        validation=folder / (validation[0] if validation else "test"),
        test=folder / "test" if validation and has_test else None,
    )
    _check_same_classes(splits)
    return splits


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except FileNotFoundError as err:
        raise EmptyDatasetError(
            f"the data folder {str(folder)!r} does not exist (current folder: {os.getcwd()!r}). "
            "Check the path."
        ) from err
    except NotADirectoryError as err:
        raise DataError(
            f"{str(folder)!r} is a file, not a folder. Pass a folder with train/ and val/."
        ) from err
    except OSError as err:
        raise DataError(
            f"the data folder {str(folder)!r} cannot be read ({err.strerror}). Check its permissions."
        ) from err


def _no_train(folder: Path, names: list[str]) -> DataError:
    if not names:
        return EmptyDatasetError(
            f"{str(folder)!r} contains no folders. Expected train/CLASS/IMAGE.jpg and val/CLASS/IMAGE.jpg."
        )
    return EmptyDatasetError(
        f"{str(folder)!r} contains no train/. Expected train/ and one of val/, validation/, test/, each with "
        f"one folder per class. Found: {_some(names)}. If these are the classes, move them to "
        f"{str(folder / 'train')!r} and some images of each to {str(folder / 'val')!r}."
    )


def _check_same_classes(splits: Splits) -> None:
    train = set(list_classes(str(splits.train), IMG_EXTENSIONS)[0])
    for other in (splits.validation, splits.test):
        if other is None:
            continue
        found = set(list_classes(str(other), IMG_EXTENSIONS)[0])
        if found != train:
            raise DataError(
                f"{str(splits.train)!r} and {str(other)!r} differ in their classes, so equal labels would "
                f"mean different things. Only in {splits.train.name}/: {_some(sorted(train - found))}; "
                f"only in {other.name}/: {_some(sorted(found - train))}. Make the class folders the same."
            )


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    return ", ".join(repr(name) for name in names[:5]) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )
