"""The file that is written, first under another name; an error of the disk is reported with its remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from typing import Final

from fastpipe.errors import DataError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def unfinished(final: str) -> Iterator[str]:
    """An empty file next to `final`, removed at the end unless renamed. DataError if it cannot be made.

    It is made before anything is read, because reading a folder of a million files takes a minute.
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
        # A disk that has become read-only keeps it; the error that matters is already being raised.
        with contextlib.suppress(OSError):
            os.unlink(path)


def unwritable(final: str, err: OSError) -> DataError:
    """What to do about a target that the operating system refuses."""
    folder = os.path.dirname(final) or "."
    if err.errno in _FULL:
        remedy = f"Free space in {folder!r}, or name a file on another disk"
    elif err.errno in _FORBIDDEN:
        remedy = f"Name a file in a folder that you may write to; {folder!r} is not writable"
    else:
        remedy = f"Check the disk of {folder!r}, or name a file on another one"
    return DataError(f"{final!r} cannot be written: {err.strerror or err}. {remedy}. Nothing was left behind")


def sync_folder(path: str) -> None:
    """Make the rename of `path` survive a power failure, on systems that can open folders."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
