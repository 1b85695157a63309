"""Walks an image folder once and packs the result into flat arrays.

Order and classes are those of torchvision.datasets.ImageFolder: classes are sorted by name; within a class
the directories are sorted by their whole path, and the file names within each directory. Links are followed.
N files, K classes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.storage.progress import Progress

SPLIT_NAMES = ("train", "val", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listing:
    """The contents of a folder: names and labels, and the state of the directories they were read from.

    blob     uint8: the paths relative to the root, each closed by a zero byte, as the file system spells them
    offsets  int64 [N+1]: where in `blob` each path starts
    labels   int32 [N], never decreasing
    dirs     (path relative to the root, mtime in ns before it was read) of every directory but the root
    """

    classes: tuple[str, ...]
    dirs: tuple[tuple[str, int], ...]
    started_ns: int
    blob: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]


def list_classes(root: str, extensions: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Return the sorted class folders of `root`, and the number of images next to them (in no class).

    Raises EmptyDatasetError if there is no folder or no class in it, DataError if `root` is a file,
    cannot be read, or contains whole splits instead of classes.
    """
    classes, num_loose = [], 0
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if _is_dir(entry):
                    classes.append(entry.name)
                elif entry.name.lower().endswith(extensions):
                    num_loose += 1
    except OSError as err:
        raise _cannot_read_root(root, err) from err
    if not classes:
        raise EmptyDatasetError(_no_class_message(root, num_loose))
    classes.sort()
    if _holds_splits(root, classes):
        raise DataError(
            f"{root!r} contains whole splits ({', '.join(classes)}), not classes. "
            f"Pass one of them as the data set, e.g. {os.path.join(root, 'train')!r}; "
            "fastpipe-train and fastpipe.storage.find_splits take the parent folder."
        )
    return tuple(classes), num_loose


def scan(root: str, classes: tuple[str, ...], extensions: tuple[str, ...], progress: Progress) -> Listing:
    """Read every directory below the class folders of `root`. No file is opened or stat'ed.

    Raises DataError for a directory that cannot be read and for a link that leads back to its own parent.
    """
    started_ns = time.time_ns()
    dirs: list[tuple[str, int]] = []
    blobs: list[bytes] = []
    counts = np.zeros(len(classes), np.int64)
    for label, name in enumerate(classes):
        found = sorted(_walk(root, name, extensions))
        dirs += [(rel, mtime_ns) for rel, mtime_ns, _ in found]
        for rel, _, files in found:
            if files:
                files.sort()
                blobs.append(_pack(f"{rel}/{file}" for file in files))
                counts[label] += len(files)
        progress(label + 1, len(classes))
    blob, offsets = _offsets(blobs)
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return Listing(
        classes=classes, dirs=tuple(dirs), started_ns=started_ns, blob=blob, offsets=offsets, labels=labels
    )


def listing_from_names(names_by_class: dict[str, list[str]]) -> Listing:
    """Return a listing of `class/name` paths that need not exist (benchmarks and tests)."""
    classes = tuple(sorted(names_by_class))
    blob, offsets = _offsets([_pack(f"{c}/{name}" for name in sorted(names_by_class[c])) for c in classes])
    counts = [len(names_by_class[c]) for c in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return Listing(classes=classes, dirs=(), started_ns=0, blob=blob, offsets=offsets, labels=labels)


def _pack(paths: Iterator[str]) -> bytes:
    return os.fsencode("\0".join(paths)) + b"\0"


def _offsets(blobs: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    blob = np.frombuffer(b"".join(blobs), np.uint8)
    ends = np.flatnonzero(blob == 0).astype(np.int64) + 1
    return blob, np.concatenate([np.zeros(1, np.int64), ends])


def _walk(root: str, class_name: str, extensions: tuple[str, ...]) -> Iterator[tuple[str, int, list[str]]]:
    """Yield (path relative to the root, mtime_ns, image file names) of a class folder and all below it."""
    root_state = os.stat(root)
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [(class_name, (_identity(root_state),))]
    while pending:
        rel, ancestors = pending.pop()
        path = os.path.join(root, rel)
        files: list[str] = []
        try:
            state = os.stat(path)  # Before reading: a change while we read must look like a later change.
            inside = (*ancestors, _identity(state))
            if state.st_ino and inside[-1] in ancestors:
                raise DataError(
                    f"the link {path!r} leads back to a folder that contains it. Remove the link: "
                    "following it would list the same images up to 40 times."
                )
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if _is_dir(entry):
                        pending.append((f"{rel}/{name}", inside))
                    elif name.lower().endswith(extensions):
                        files.append(name)
        except OSError as err:
            raise DataError(
                f"the folder {path!r} cannot be read ({err.strerror}), so its images would be missing. "
                "Change its permissions or move it out of the data set."
            ) from err
        yield rel, state.st_mtime_ns, files


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether `entry` is a folder or a link to one; a link that cannot be followed is a file."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _holds_splits(root: str, classes: list[str]) -> bool:
    """Whether all folders are named like splits and contain folders themselves.

    A data set of vehicles may have a class `train`, which contains images, not folders.
    """
    if "train" not in classes or len(classes) < 2 or not set(classes) <= set(SPLIT_NAMES):
        return False
    for name in classes:
        try:
            with os.scandir(os.path.join(root, name)) as entries:
                if not any(_is_dir(entry) for entry in entries):
                    return False
        except OSError:  # The walk reaches the same folder and names it.
            return False
    return True


def _cannot_read_root(root: str, err: OSError) -> DataError:
    if isinstance(err, FileNotFoundError):
        return EmptyDatasetError(
            f"the data folder {root!r} does not exist (current folder: {os.getcwd()!r}). Check the path."
        )
    if isinstance(err, NotADirectoryError):
        return DataError(
            f"{root!r} is a file, not a folder. Pass a folder with one folder per class: "
            "ROOT/CLASS/IMAGE.jpg; unpack an archive first."
        )
    return DataError(f"the data folder {root!r} cannot be read ({err.strerror}). Check its permissions.")


def _no_class_message(root: str, num_loose: int) -> str:
    if num_loose:
        return (
            f"{root!r} contains {num_loose} images but no class folders. Put the images of each class in a "
            f"separate folder: {os.path.join(root, 'CLASS', 'IMAGE.jpg')!r}."
        )
    return (
        f"{root!r} contains no class folders. Expected one folder per class: "
        f"{os.path.join(root, 'CLASS', 'IMAGE.jpg')!r}."
    )
