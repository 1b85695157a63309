"""`.beton` files as training data: train.beton with val.beton, or one file with a held-out share.

A file's partner has the same name with a different split: train_500.beton and val_500.beton.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Subset

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.rng import permutation
from fastpipe.storage import Beton, FolderIndex, is_beton, open_images, write_beton
from fastpipe.system.files import build_once, user_cache_dir
from fastpipe.types import IntArray

_SPLITS = ("train", "validation", "val", "test")
_WORD = re.compile(rf"(?<![a-z])({'|'.join(_SPLITS)})(?![a-z])", re.IGNORECASE)
# The held-out images are the same in every run, whatever its seed, so that runs can be compared.
_KEY = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class BetonPart:
    """Images of a `.beton`: those of `ids`, or all."""

    beton: Beton
    classes: tuple[str, ...]
    ids: IntArray | None = None

    @property
    def root(self) -> str:
        """The file."""
        return self.beton.path

    def __len__(self) -> int:
        return len(self.beton) if self.ids is None else len(self.ids)

    @property
    def numbered(self) -> bool:
        """Whether the classes have numbers instead of names, as in a file of stock FFCV."""
        return self.classes == tuple(map(str, range(len(self.classes))))


@singledispatch
def dataset_of(images: Any, transform: Callable[[Any], Any]) -> Any:
    """The images in a form that the loader takes; further kinds register themselves here."""
    return open_images(images, transform)


@dataset_of.register
def _(images: BetonPart, transform: Callable[[Any], Any]) -> Any:
    all_of_it = open_images(images.beton, transform)
    return all_of_it if images.ids is None else Subset(all_of_it, images.ids.tolist())


def split_in_name(path: Path) -> str | None:
    """train, val, validation or test, where the file's name has it as a word."""
    found = _WORD.search(path.stem)
    return found.group(1).lower() if found else None


def partner(path: Path, split: str) -> Path | None:
    """The file next to train*.beton whose name has `split` instead, or None."""
    other = path.with_name(_WORD.sub(split, path.stem, count=1) + path.suffix)
    return other if other != path and other.is_file() else None


def in_folder(folder: Path, split: str = "train") -> Path | None:
    """The one `.beton` of this split in `folder`, or None. Raises DataError if there are several."""
    found = sorted(p for p in folder.iterdir() if is_beton(p) and split_in_name(p) == split)
    if len(found) > 1:
        raise DataError(
            f"{str(folder)!r} holds several .beton files for {split}: {[p.name for p in found[:5]]}. Name "
            "one of them"
        )
    return found[0] if found else None


def beton_splits(train: Path) -> tuple[Path, Path, Path | None] | None:
    """`train`, the file to validate on, and one to test on or None; None if it has no partner."""
    if split_in_name(train) != "train":
        return None
    val, test = partner(train, "val") or partner(train, "validation"), partner(train, "test")
    if val is not None:
        return train, val, test
    return None if test is None else (train, test, None)


def whole(path: Path) -> BetonPart:
    """All images of a file. Raises DataError for labels that are not classes."""
    beton = Beton(path)
    if not beton.classes:
        raise DataError(f"{str(path)!r} has labels that are not classes (0, 1, ...). Write the file again")
    return BetonPart(beton=beton, classes=beton.classes)


def held_out_of(labels: IntArray, share: float) -> npt.NDArray[np.bool_]:
    """Which images are held out: the given number of each class, drawn with a fixed key."""
    order = permutation(_KEY, 0, len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    ends = np.cumsum(np.bincount(labels))
    is_held = np.zeros(len(labels), dtype=bool)
    for members in np.split(by_class, ends[:-1]):
        if len(members) > 1:
            is_held[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
    return is_held


def beton_parts(path: Path, held_out: float) -> tuple[BetonPart, BetonPart]:
    """The images of one file to train on, and those held out: the share `held_out` of each class.

    At least one image of a class is held out, and never all: a class with one image is only trained on.
    """
    all_of_it = whole(path)
    is_held = held_out_of(all_of_it.beton.labels, held_out)
    if not is_held.any():
        raise EmptyDatasetError(
            f"{str(path)!r} has one image of each class, so none can be held out to measure accuracy on. "
            "Put val.beton next to train.beton"
        )
    parts = (np.flatnonzero(~is_held), np.flatnonzero(is_held))
    train, held = (BetonPart(beton=all_of_it.beton, classes=all_of_it.classes, ids=ids) for ids in parts)
    return train, held


_log = logging.getLogger("fastpipe.train")


_FILE = "images.beton"


_FORMAT = 1


def as_beton(index: FolderIndex) -> Path:
    """The `.beton` with the images of `index` in its order, without loss; rewritten if a file changed.

    Raises what `fastpipe.storage.write_beton` raises, and DataError when the cache cannot be written.
    """
    digest = _fingerprint(index)
    target = user_cache_dir() / "beton" / f"{Path(index.root).name}-{digest[:16]}"

    def build(folder: Path) -> None:
        _log.warning("writing the images of %s once to %s", index.root, target / _FILE)
        write_beton(index, folder / _FILE)

    return build_once(target, {"format": _FORMAT, "files": digest}, build) / _FILE


def _fingerprint(index: FolderIndex) -> str:
    """A hash of every file's path, size and time of change."""
    digest = hashlib.sha256(os.fsencode(index.root))
    for i in range(len(index)):
        path = index.path(i)
        state = os.stat(path)
        digest.update(os.fsencode(path) + f"|{state.st_size}|{state.st_mtime_ns}|{index.label(i)}\n".encode())
    return digest.hexdigest()
