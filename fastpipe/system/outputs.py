"""Files that a command was asked to write: a bad path is refused before the work, not after it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fastpipe.errors import ArgumentError
from fastpipe.system.files import replace_file
from fastpipe.system.output import printable

__all__ = ["check_writable", "unwritable", "write_text"]


def check_writable(option: str, path: str) -> None:
    """Raise ArgumentError if `path` cannot be written: now, not after a minute of measuring."""
    target = Path(path)
    if target.is_dir():
        raise ArgumentError(f"{option} must name a file to write. Found: {path!r}, which is a folder")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise unwritable(option, path, error) from error


def write_text(option: str, path: str, text: str) -> None:
    """Write UTF-8 text in one move: readers never see half of it. ArgumentError when it cannot be."""
    try:
        replace_file(path, lambda file: file.write(printable(text).encode()))
    except OSError as error:
        raise unwritable(option, path, error) from error


def unwritable(option: str, path: str, error: OSError) -> ArgumentError:
    """The error of `option` for a file that the system refused to write."""
    return ArgumentError(
        f"{option} must name a file that can be written. Found: {path!r} ({error.strerror}). "
        "Name a file in a folder that exists and that you can write to"
    )
