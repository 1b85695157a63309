"""The place of a folder's cached index, and whether that index is still valid."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings

from torchvision.datasets.folder import IMG_EXTENSIONS

from fastpipe.errors import DataError
from fastpipe.storage.index_file import CorruptIndexError, Stored, read_index
from fastpipe.storage.scan import Listing
from fastpipe.system.files import user_cache_dir

_log = logging.getLogger("fastpipe.storage")
# A directory changed this shortly before it was read may change again without a new mtime:
# FAT keeps 2 s, ext4 one kernel tick (1 to 10 ms).
_RACY_NS = 2_000_000_000


def _suffix(extensions: tuple[str, ...]) -> str:
    return "" if extensions == tuple(IMG_EXTENSIONS) else "-" + _digest("\0".join(extensions))[:8]


def cache_place(root: str, extensions: tuple[str, ...], cache_dir: str | os.PathLike[str] | None) -> str:
    """Return the place of the cache, or "" if there is none."""
    real = os.path.realpath(root)
    name = f"{os.path.basename(real)[:40]}-{_digest(real)[:16]}{_suffix(extensions)}.bin"
    try:
        return str(user_cache_dir(cache_dir) / "index" / name)
    except DataError as err:
        _log.info("%s", err)
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def former_place(root: str, extensions: tuple[str, ...]) -> str:
    """The former place, in the user's own folder: still read, never written."""
    return os.path.join(root, f".fastpipe-index{_suffix(extensions)}.bin")


def ctime_ns(root: str) -> int | None:
    """Differs for another folder of the same name, even if an archive set all mtimes."""
    try:
        return os.stat(root).st_ctime_ns
    except OSError:
        return None


def stored_index(
    root: str, classes: tuple[str, ...], extensions: tuple[str, ...], place: str
) -> Stored | None:
    """The index in the file `place`, if it describes this folder as it is now."""
    try:
        stored = read_index(place)
    except (CorruptIndexError, OSError, MemoryError) as err:
        warnings.warn(f"the index cache {place!r} is unusable ({err}): rebuilding it", stacklevel=4)
        return None
    if stored is None or stored.extensions != extensions or not _holds(root, classes, stored.listing):
        return None
    return stored


def _holds(root: str, classes: tuple[str, ...], listing: Listing) -> bool:
    """Whether no directory has changed since it was read, nor shortly before that."""
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
