"""The file that is written: under another name first, and a disk that refuses it is told with its remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from typing import Final

from fastpipe.errors import DataError

__all__ = ["sync_folder", "unfinished", "unwritable"]

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def unfinished(final: str) -> Iterator[str]:
    """An empty file beside `final`, gone at the end unless it was renamed. DataError where it cannot be.

    It is made before anything is read: a folder of a million files takes a minute.
    """
    path = f"{final}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with open(path, "xb"):
            pass
    except OSError as err:
        raise unwritable(final, err) from err
    try:
        yield path
    finally:
        # A disk that turned read-only meanwhile keeps it; the error that matters is on its way.
        with contextlib.suppress(OSError):
            os.unlink(path)


def unwritable(final: str, err: OSError) -> DataError:
    """What to do about a target that the operating system refuses."""
    folder = os.path.dirname(final) or "."
    if err.errno in _FULL:
        remedy = f"Free space in {folder!r}, or name a file on another disk"
    elif err.errno in _FORBIDDEN:
        remedy = f"Name a file in a folder that you may write to, which {folder!r} is not"
    else:
        remedy = f"Look at the disk of {folder!r}, or name a file on another one"
    return DataError(f"{final!r} cannot be written: {err.strerror or err}. {remedy}. No part of it was left")


def sync_folder(path: str) -> None:
    """Make the rename of `path` last through a power cut, where folders can be opened."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
