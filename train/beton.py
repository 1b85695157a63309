"""An image folder as a `.beton` for the backend that reads nothing else, written once into the cache."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from fastpipe.storage import FolderIndex, write_beton
from fastpipe.system.files import build_once, user_cache_dir

__all__ = ["as_beton"]

_log = logging.getLogger("fastpipe.train")
_FILE = "images.beton"
_FORMAT = 1


def as_beton(index: FolderIndex) -> Path:
    """The `.beton` with the images of `index` in its order, without loss; written anew when a file changed.

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
