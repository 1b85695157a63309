"""The index of an image folder: flat arrays instead of a list of tuples, cached on disk.

N files, K classes, B ids asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import operator
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torchvision.datasets.folder import IMG_EXTENSIONS as _TORCHVISION_EXTENSIONS

from fastpipe.errors import ArgumentError, DataError, EmptyDatasetError
from fastpipe.storage.cache import user_cache_dir
from fastpipe.storage.index_file import CorruptIndexError, Stored, read_index, write_index
from fastpipe.storage.progress import Progress, reporting
from fastpipe.storage.scan import Listing, list_classes, scan
from fastpipe.types import Sample

__all__ = ["IMG_EXTENSIONS", "FolderIndex", "open_index"]

IMG_EXTENSIONS: tuple[str, ...] = tuple(_TORCHVISION_EXTENSIONS)

_log = logging.getLogger("fastpipe.storage")
_BESIDE = ".fastpipe-index"
# A directory changed this shortly before it was read may change again without its mtime showing it:
# FAT keeps 2 s, ext4 one kernel tick (1 to 10 ms).
_RACY_NS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FolderIndex:
    """Every image of a folder and its class; sample i is torchvision's `ImageFolder(root).samples[i]`.

    blob       uint8: the paths relative to `root`, each closed by a zero byte
    offsets    int64 [N+1]: where in `blob` each path starts
    labels     int32 [N]
    num_bytes  int64 [N], -1 where no one has asked yet (see `file_sizes`)
    image_hw   int32 [N,2] height and width, 0 where no one has asked yet (see `image_sizes`)

    The last two fill up on demand. They are of the time they were read: a file overwritten in place
    changes no directory, so it goes unnoticed (delete the cache file, or open with use_cache=False).
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
        """Return the path of file i: `root` as it was given, joined with what was found below it."""
        i = self._checked(i)
        rel = self.blob[self.offsets[i] : self.offsets[i + 1] - 1].tobytes()
        return os.path.join(self.root, os.fsdecode(rel))

    def label(self, i: int) -> int:
        """Return the class index of file i."""
        return int(self.labels[self._checked(i)])

    def sample(self, i: int) -> Sample:
        """Return file i as a Sample. Its size is looked up the first time; -1 when the file is gone."""
        path = self.path(i)
        if self.num_bytes[i] < 0:
            with contextlib.suppress(OSError):  # Who reads the file raises, with its path.
                self.num_bytes[i] = os.stat(path).st_size
        return Sample(id=int(i), path=path, label=int(self.labels[i]), num_bytes=int(self.num_bytes[i]))

    def _checked(self, i: int) -> int:
        i = operator.index(i)
        if not 0 <= i < len(self.labels):
            raise IndexError(f"file {i} of an index of {len(self.labels)}")
        return i

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
    """Return the index of the image folder `root`, from its cache where that still holds.

    The cache is the file `.fastpipe-index.bin` in `root` (a file, since ImageFolder takes every folder for
    a class), or one in the user's cache directory when `root` cannot be written or `cache_dir` is given.
    It holds while no directory below `root` has another mtime than when it was read. Adding, removing or
    renaming a file changes that; a damaged cache is rebuilt with a warning.

    Raises EmptyDatasetError (no folder, no class, no image, an empty class unless `allow_empty_class`) and
    DataError (a file, an unreadable folder, a folder of splits, a link that leads in a circle).
    """
    root_path = os.path.expanduser(os.fsdecode(root))
    endings = _checked_extensions(extensions)
    classes, num_loose = list_classes(root_path, endings)
    if num_loose:
        _log.warning("%d images lie directly in %r, in no class: they are left out", num_loose, root_path)
    places = _cache_places(root_path, endings, cache_dir) if use_cache else []
    index = _open_cached(root_path, classes, endings, places)
    if index is None:
        with reporting(f"Indexing {root_path}", progress) as report:
            listing = scan(root_path, classes, endings, report)
        index = _save(_index(root_path, listing), listing, endings, places)
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
        raise ArgumentError(f"extensions must name endings such as '.jpg'. Found: {extensions!r}")
    return tuple(ending.lower() for ending in endings)


def _check_classes(index: FolderIndex, extensions: tuple[str, ...], allow_empty_class: bool) -> None:
    if not len(index):
        raise EmptyDatasetError(
            f"the {len(index.classes)} class folders of {index.root!r} hold no image. "
            f"Image files end in {', '.join(extensions)}; DataLoader and open_index look for nothing else."
        )
    empty = np.flatnonzero(np.bincount(index.labels, minlength=len(index.classes)) == 0)
    if len(empty) and not allow_empty_class:
        names = ", ".join(repr(index.classes[label]) for label in empty[:5])
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise EmptyDatasetError(
            f"class folders of {index.root!r} without an image: {names}{more}. Remove them (every folder is "
            f"a class), add images ({', '.join(extensions)}), or pass allow_empty_class=True."
        )


def _cache_places(
    root: str, extensions: tuple[str, ...], cache_dir: str | os.PathLike[str] | None
) -> list[str]:
    """Return where a cache may lie, best first."""
    special = "" if extensions == IMG_EXTENSIONS else "-" + _digest("\0".join(extensions))[:8]
    real = os.path.realpath(root)
    name = f"{os.path.basename(real)[:40]}-{_digest(real)[:16]}{special}.bin"
    places = [] if cache_dir is not None else [os.path.join(root, f"{_BESIDE}{special}.bin")]
    try:
        places.append(str(user_cache_dir(cache_dir) / "index" / name))
    except DataError as err:
        _log.info("%s", err)
    return places


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _open_cached(
    root: str, classes: tuple[str, ...], extensions: tuple[str, ...], places: list[str]
) -> FolderIndex | None:
    for place in places:
        try:
            stored = read_index(place)
        except (CorruptIndexError, OSError, MemoryError) as err:
            warnings.warn(f"the index cache {place!r} is unusable ({err}): rebuilding it", stacklevel=3)
            continue
        if stored is not None and stored.extensions == extensions and _holds(root, classes, stored.listing):
            return _index(root, stored.listing, stored, place)
    return None


def _holds(root: str, classes: tuple[str, ...], listing: Listing) -> bool:
    """Say whether every directory is as it was when it was read, and had been at rest for a while then."""
    if listing.classes != classes or not set(classes) <= {rel for rel, _ in listing.dirs}:
        return False
    try:
        return all(
            mtime_ns < listing.started_ns - _RACY_NS
            and os.stat(os.path.join(root, rel)).st_mtime_ns == mtime_ns
            for rel, mtime_ns in listing.dirs
        )
    except (OSError, ValueError):
        return False


def _save(
    index: FolderIndex, listing: Listing, extensions: tuple[str, ...], places: list[str]
) -> FolderIndex:
    """Write the cache to the first place that takes it, and return the index that knows where it lies."""
    for place in places:
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            file_id = write_index(place, listing, extensions, index.num_bytes, index.image_hw)
        except OSError as err:
            _log.info("no index cache at %r (%s)", place, err.strerror)
            continue
        stored = Stored(
            listing=listing,
            extensions=extensions,
            num_bytes=index.num_bytes,
            image_hw=index.image_hw,
            file_id=file_id,
        )
        return _index(index.root, listing, stored, place)
    if places:
        _log.warning("the index of %r could not be cached: it is built anew each time", index.root)
    return index
