"""Writing tensors to a disk that may be full, and naming the reason of a failed write."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Any, cast

import torch


def save_tensors(value: Any, path: Path) -> None:
    """torch.save to `path`, flushed to the disk. Raises the disk's own OSError.

    torch's writer drops the error of a write and raises a RuntimeError of its own ("unexpected pos ...").
    """
    with path.open("wb") as file:
        kept = _KeepsErrors(file)
        try:
            torch.save(value, cast("IO[bytes]", kept))
        except RuntimeError as error:
            if kept.error is None:
                raise
            raise kept.error from error
        file.flush()
        os.fsync(file.fileno())


class _KeepsErrors:
    """The part of a file that torch.save needs; it keeps the first error."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def clear_away(temporary: Path) -> None:
    """Remove an unfinished file if possible.

    A disk that has become read-only keeps it. The error about the disk is already on its way, unhidden.
    """
    with contextlib.suppress(OSError):
        temporary.unlink()


def why_not_written(error: Exception) -> str:
    """The reason in words: "No space left on device", not the error's number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
