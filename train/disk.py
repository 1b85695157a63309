"""Writing tensors to a disk that may be full, and saying why it took no more."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Any, cast

import torch

__all__ = ["clear_away", "save_tensors", "why_not_written"]


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
    """What torch.save needs of a file, which keeps the first error."""

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
    """Remove an unfinished file where it can be.

    A disk that has turned read-only keeps it; the error that tells so is on its way, and none may hide it.
    """
    with contextlib.suppress(OSError):
        temporary.unlink()


def why_not_written(error: Exception) -> str:
    """The reason in words: "No space left on device", not the error's number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
