"""The index of an image folder: flat arrays instead of a list of tuples, cached on disk.

N files, K classes, B requested ids.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torchvision.datasets.folder import IMG_EXTENSIONS as _TORCHVISION_EXTENSIONS

from fastpipe.errors import ArgumentError, EmptyDatasetError
from fastpipe.storage.index_cache import cache_place, ctime_ns, former_place, stored_index
from fastpipe.storage.index_file import Stored, write_index
from fastpipe.storage.progress import Progress, reporting
from fastpipe.storage.scan import Listing, list_classes, scan
from fastpipe.types import IntArray, Sample

__all__ = ["IMG_EXTENSIONS", "FolderIndex", "open_index"]

IMG_EXTENSIONS: tuple[str, ...] = tuple(_TORCHVISION_EXTENSIONS)

_log = logging.getLogger("fastpipe.storage")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FolderIndex:
    """Every image of a folder and its class; sample i is torchvision's `ImageFolder(root).samples[i]`.

    blob       uint8: the paths relative to `root`, each closed by a zero byte
    offsets    int64 [N+1]: where in `blob` each path starts
    labels     int32 [N]
    num_bytes  int64 [N], -1 until requested (see `file_sizes`)
    image_hw   int32 [N,2] height and width, 0 until requested (see `image_sizes`)

    The last two are filled on demand and show the state at that time: a file overwritten in place changes no
    directory, so the change is not noticed (delete the cache file, or open with use_cache=False).
    """

    root: str
    classes: tuple[str, ...]
    blob: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    num_bytes: npt.NDArray[np.int64]
    image_hw: npt.NDArray[np.int32]
    cache_file: str = ""
    cache_id: bytes = b""

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"FolderIndex({self.root!r}, {len(self)} files, {len(self.classes)} classes)"

    def path(self, i: int) -> str:
        """Return the path of file i: `root` as given, joined with the path found below it."""
        i = self._checked(i)
        rel = self.blob[self.offsets[i] : self.offsets[i + 1] - 1].tobytes()
        return os.path.join(self.root, os.fsdecode(rel))

    def file_names(self, ids: IntArray) -> list[bytes]:
        """Return the paths of several files, as the system has them: 0.3 us each, where `path` takes 1.5."""
        checked = [self._checked(i) for i in ids.tolist()]
        root = os.fsencode(os.path.join(self.root, ""))
        starts, stops = self.offsets[checked].tolist(), (self.offsets[1:][checked] - 1).tolist()
        return [root + self.blob[a:b].tobytes() for a, b in zip(starts, stops, strict=True)]

    def label(self, i: int) -> int:
        """Return the class index of file i."""
        return int(self.labels[self._checked(i)])

    def sample(self, i: int) -> Sample:
        """Return file i as a Sample. Its size is looked up the first time; -1 if the file is gone."""
        path = self.path(i)
        if self.num_bytes[i] < 0:
            with contextlib.suppress(OSError):  # The reader of the file raises, with its path.
                self.num_bytes[i] = os.stat(path).st_size
        return Sample(id=int(i), path=path, label=int(self.labels[i]), num_bytes=int(self.num_bytes[i]))

    def _checked(self, i: int) -> int:
        i = operator.index(i)
        if not 0 <= i < len(self.labels):
            raise IndexError(f"file {i} of an index of {len(self.labels)}")
        return i

    @property
    def numbered(self) -> bool:
        """Whether the classes have no names but numbers: never, a folder's name is one."""
        return False

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The class index of each class name."""
        return {name: label for label, name in enumerate(self.classes)}

    @property
    def nbytes(self) -> int:
        """Resident bytes of the arrays."""
        arrays = (self.blob, self.offsets, self.labels, self.num_bytes, self.image_hw)
        return sum(array.nbytes for array in arrays)


def open_index(
    root: str | os.PathLike[str],
    *,
    extensions: Sequence[str] = IMG_EXTENSIONS,
    use_cache: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    allow_empty_class: bool = False,
) -> FolderIndex:
    """Return the index of the image folder `root`, from its cache if that is still valid.

    The cache is a file in `cache_dir`, or below the user's cache directory (see `user_cache_dir`); nothing
    is written to `root`. A `.fastpipe-index.bin` that an earlier version left in `root` is read once, if it
    is valid, and may be deleted. A cache is valid while `root` is the same folder (by its ctime) and no
    directory below it has changed its mtime. Adding, removing or renaming a file changes an mtime; a damaged
    cache is rebuilt with a warning.

    Raises EmptyDatasetError (no folder, no class, no image, an empty class unless `allow_empty_class`) and
    DataError (a file, an unreadable folder, a folder of splits, a circular link).
    """
    root_path = os.path.expanduser(os.fsdecode(root))
    endings = _checked_extensions(extensions)
    classes, num_loose = list_classes(root_path, endings)
    if num_loose:
        _log.warning(
            "%d images lie directly in %r, outside any class folder: they are ignored", num_loose, root_path
        )
    place = cache_place(root_path, endings, cache_dir) if use_cache else ""
    root_ctime_ns = ctime_ns(root_path)
    index = _open_cached(root_path, classes, endings, place, root_ctime_ns)
    if index is None and use_cache and cache_dir is None:
        index = _open_former(root_path, classes, endings, place, root_ctime_ns)
    if index is None:
        with reporting(f"Indexing {root_path}", progress) as report:
            listing = scan(root_path, classes, endings, report)
        index = _save(_index(root_path, listing), listing, endings, place, root_ctime_ns)
        if use_cache and not index.cache_file:
            _log.warning("the index of %r could not be cached: it is rebuilt each time", root_path)
    _check_classes(index, endings, allow_empty_class)
    return index


def _index(root: str, listing: Listing, stored: Stored | None = None, cache_file: str = "") -> FolderIndex:
    count = len(listing.labels)
    for array in (listing.blob, listing.offsets, listing.labels):
        array.flags.writeable = False
    return FolderIndex(
        root=root,
        classes=listing.classes,
        blob=listing.blob,
        offsets=listing.offsets,
        labels=listing.labels,
        num_bytes=np.full(count, -1, np.int64) if stored is None else stored.num_bytes,
        image_hw=np.zeros((count, 2), np.int32) if stored is None else stored.image_hw,
        cache_file=cache_file,
        cache_id=b"" if stored is None else stored.file_id,
    )


def _checked_extensions(extensions: Sequence[str]) -> tuple[str, ...]:
    endings = (extensions,) if isinstance(extensions, str) else tuple(extensions)
    if not endings or not all(endings):
        raise ArgumentError(f"extensions must be file name endings such as '.jpg'. Found: {extensions!r}")
    return tuple(ending.lower() for ending in endings)


def _check_classes(index: FolderIndex, extensions: tuple[str, ...], allow_empty_class: bool) -> None:
    if not len(index):
        raise EmptyDatasetError(
            f"the {len(index.classes)} class folders of {index.root!r} contain no image. "
            f"Image files end in {', '.join(extensions)}; DataLoader and open_index ignore all other files."
        )
    empty = np.flatnonzero(np.bincount(index.labels, minlength=len(index.classes)) == 0)
    if len(empty) and not allow_empty_class:
        names = ", ".join(repr(index.classes[label]) for label in empty[:5])
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise EmptyDatasetError(
            f"class folders of {index.root!r} without an image: {names}{more}. Remove them (every folder is "
            f"a class), add images ({', '.join(extensions)}), or pass allow_empty_class=True."
        )


def _open_cached(
    root: str, classes: tuple[str, ...], extensions: tuple[str, ...], place: str, root_ctime_ns: int | None
) -> FolderIndex | None:
    stored = stored_index(root, classes, extensions, place) if place else None
    if stored is None or stored.root_ctime_ns != root_ctime_ns:
        return None
    return _index(root, stored.listing, stored, place)


def _open_former(
    root: str, classes: tuple[str, ...], extensions: tuple[str, ...], place: str, root_ctime_ns: int | None
) -> FolderIndex | None:
    """The index that an earlier version kept in `root`, moved to `place`. The checks are the same."""
    stored = stored_index(root, classes, extensions, former_place(root, extensions))
    if stored is None:
        return None
    return _save(_index(root, stored.listing, stored), stored.listing, extensions, place, root_ctime_ns)


def _save(
    index: FolderIndex, listing: Listing, extensions: tuple[str, ...], place: str, root_ctime_ns: int | None
) -> FolderIndex:
    """Write the cache if there is a writable place, and return the index with that place."""
    if not place:
        return index
    facts = index.num_bytes, index.image_hw
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        file_id = write_index(place, listing, extensions, *facts, root_ctime_ns=root_ctime_ns)
    except OSError as err:
        _log.info("no index cache at %r (%s)", place, err.strerror)
        return index
    return replace(index, cache_file=place, cache_id=file_id)
