"""What is named to be predicted: images, folders, lists, `.beton` files, the demo, in the given order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage import (
    IMG_EXTENSIONS,
    Beton,
    ImageList,
    demo_splits,
    from_csv,
    is_beton,
    is_table,
)
from fastpipe.train.betons import BetonPart
from fastpipe.train.splits import Images
from fastpipe.train.tables import TablePart

_SHOWN = 5


def open_sources(given: Sequence[str], *, missing_are_rows: bool = False) -> list[Images]:
    """The images of all `given` names in their order, as data sets without labels.

    A folder is read with all folders below it, sorted. Raises ArgumentError without any name, for a folder
    without images, and for files that do not exist unless `missing_are_rows`; DataError for a list or
    `.beton` that cannot be read.
    """
    if not given:
        raise ArgumentError(
            "--predict must be followed by a checkpoint and what to predict: images, folders, .beton, .csv, "
            ".jsonl or .parquet files, or demo. Found: nothing after the checkpoint"
        )
    found: list[Images] = []
    files: list[str] = []
    for name in given:
        if is_beton(name):
            found += [*_listed(files), BetonPart(beton=Beton(name), classes=())]
            files = []
        else:
            files += _files_of(name, check_files=not missing_are_rows)
    if not missing_are_rows:
        _check_all_exist(files)
    return [*found, *_listed(files)]


def check_no_source(option: str, path: str, sources: Sequence[Images]) -> None:
    """Raise ArgumentError if `path` is, or is about to be, an image of these or the file that lists them.

    A picture in a folder of images would be one of them from then on.
    """
    target = os.path.realpath(path)
    for images in sources:
        root = os.path.realpath(images.root)
        own = os.path.isdir(root) and _is_image(path) and target.startswith(os.path.join(root, ""))
        if own or target == root or _lists(images, target):
            raise ArgumentError(
                f"{option} must not name a file among the images, or the one that lists them. Found: "
                f"{path!r}. Name a file in another folder"
            )


def _lists(images: Images, target: str) -> bool:
    if not isinstance(images, TablePart) or not os.path.exists(target):
        return False
    return any(os.path.realpath(path) == target for path, _ in images.images.samples)


def _listed(files: list[str]) -> list[Images]:
    return [TablePart(file="the named files", images=ImageList(files), classes=())] if files else []


def _files_of(name: str, *, check_files: bool) -> Iterable[str]:
    if name == "demo":
        return _below(str(demo_splits().validation))
    path = os.path.expanduser(name)
    if is_table(path):
        images = from_csv(path, label=None, check_files=check_files)
        return [images.samples[i][0] for i in range(len(images))]
    return _below(path) if os.path.isdir(path) else [path]


def _below(folder: str) -> list[str]:
    """The images in a folder and below it: a folder's own files first, then its folders, each by name."""
    found = list(_walk(folder, ()))
    if not found:
        raise ArgumentError(
            f"{folder!r} must hold images, in it or in folders below it. Found: no file that ends in "
            f"{', '.join(IMG_EXTENSIONS)}"
        )
    return found


def _walk(folder: str, ancestors: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Raises DataError for a folder that cannot be read, and for a link that leads back to one around it."""
    try:
        state = os.stat(folder)
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise DataError(
            f"the folder {folder!r} cannot be read ({error.strerror}), so its images would be missing. "
            "Change its permissions, or name the folders without it"
        ) from error
    inside = (*ancestors, (state.st_dev, state.st_ino))
    if inside[-1] in ancestors:
        raise DataError(
            f"the link {folder!r} leads back to a folder that contains it, so its images would be listed "
            "again. Remove the link"
        )
    yield from (os.path.join(folder, name) for name, is_dir in names if not is_dir and _is_image(name))
    for name, is_dir in names:
        if is_dir:
            yield from _walk(os.path.join(folder, name), inside)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def _check_all_exist(files: Sequence[str]) -> None:
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ArgumentError(
            f"--predict must name files that exist. Found: {len(missing)} of {len(files)} that do not: "
            f"{', '.join(map(repr, missing[:_SHOWN]))}{more}. Correct the names, or give --on-error skip for "
            "a row with the error"
        )
