"""A `.beton` file written by FFCV or `fastpipe-write`, open for reading: checked arrays and a memory map."""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.storage.beton.side import Side, name_at, read_side
from fastpipe.storage.beton.tables import Frame, Tables, read_frame, read_tables

__all__ = ["Beton", "is_beton"]

# Up to this label, a file without class names uses the numbers as names; beyond it, the file has no classes.
_MAX_NUMBERED = 1 << 20


def is_beton(path: Any) -> bool:
    """Whether this is the path of a `.beton` file, judged by its name alone."""
    return isinstance(path, str | os.PathLike) and os.fsdecode(path).lower().endswith(".beton")


class Beton:
    """N images with labels in one file; every address and size in it was checked when it was opened.

    path       as given, with ~ expanded
    heights, widths   uint16 [N], pixels
    modes      uint8 [N]: 0 JPEG, 1 raw RGB [H,W,3]
    pointers, lengths   uint64 [N]: where each image's bytes lie; always inside the file
    labels     int64 [N]
    names      of the images, as written in the file, else "PATH#i"
    classes    names of the labels, else their numbers; empty if these cannot be classes (below 0, over 2^20)
    page_size  bytes, FFCV's unit of reading
    about      what the writer recorded about itself; empty in a file of stock FFCV

    If a file has several RGBImage or Int fields, `image_field` and `label_field` choose one. The defaults are
    the only field of the kind, else those named "image" and "label". Other fields are ignored.
    Raises DataError for a file that is not a valid `.beton`, EmptyDatasetError for no file or no samples.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, image_field: str | None = None, label_field: str | None = None
    ) -> None:
        self.path = os.path.expanduser(os.fsdecode(path))
        self._map: tuple[int, npt.NDArray[np.uint8]] | None = None
        try:
            frame, tables, side = self._read(image_field, label_field)
        except EmptyDatasetError as err:
            raise EmptyDatasetError(f"{self.path!r}: {err}") from err
        except DataError as err:
            raise DataError(f"{self.path!r}: {err}") from err
        except OSError as err:
            raise DataError(f"{self.path!r} cannot be read: {err.strerror or err}") from err
        self.page_size = frame.page_size
        self.heights, self.widths, self.modes = tables.heights, tables.widths, tables.modes
        self.pointers, self.lengths, self.labels = tables.pointers, tables.lengths, tables.labels
        self._side = side
        self.about = {} if side is None else side.about
        self.classes = _numbered(tables.labels) if side is None else side.classes

    def _read(self, image_field: str | None, label_field: str | None) -> tuple[Frame, Tables, Side | None]:
        try:
            state = os.stat(self.path)
        except FileNotFoundError as err:
            raise EmptyDatasetError(f"no such file (current folder: {os.getcwd()!r})") from err
        if not stat.S_ISREG(state.st_mode):  # A pipe of that name would block forever.
            raise DataError("not a file")
        with open(self.path, "rb") as file:
            self._state = _fingerprint(os.fstat(file.fileno()))
            frame = read_frame(file, self._state[0], image_field, label_field)
            tables = read_tables(file, frame)
            side = read_side(file, frame)
        if side is not None and (tables.labels.min() < 0 or tables.labels.max() >= len(side.classes)):
            raise DataError(f"a label lies outside 0..{len(side.classes) - 1}: the file is damaged")
        return frame, tables, side

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Beton({self.path!r}, {len(self)} images, {len(self.classes)} classes)"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    @property
    def names(self) -> Sequence[str]:
        """The name of every image, made on request."""
        return _Names(self)

    @property
    def checksums(self) -> npt.NDArray[np.uint32] | None:
        """CRC-32 [N] of each image's bytes as they were written; None in a file of stock FFCV."""
        if self._side is None:
            return None
        start = self._side.checksums_at
        return self.data()[start : start + 4 * len(self)].view("<u4")

    def data(self) -> npt.NDArray[np.uint8]:
        """The whole file, read-only, mapped once in each process. DataError if the file has been replaced."""
        if self._map is None or self._map[0] != os.getpid():
            try:
                with open(self.path, "rb") as file:
                    if _fingerprint(os.fstat(file.fileno())) != self._state:
                        raise DataError(f"{self.path!r} has changed since it was opened: open it again")
                    self._map = os.getpid(), np.memmap(file, np.uint8, "r")
            except OSError as err:
                raise DataError(f"{self.path!r} cannot be read: {err.strerror or err}") from err
        return self._map[1]

    def encoded(self, i: int) -> memoryview:
        """The bytes of image i as stored in the file, without a copy: JPEG, or RGB [H,W,3] (see `modes`)."""
        i = operator.index(i)
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)} in {self.path!r}")
        start = int(self.pointers[i])
        return self.data()[start : start + int(self.lengths[i])].data


def _fingerprint(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns


def _numbered(labels: npt.NDArray[np.int64]) -> tuple[str, ...]:
    last = int(labels.max())
    return tuple(map(str, range(last + 1))) if labels.min() >= 0 and last < _MAX_NUMBERED else ()


class _Names(Sequence[str]):
    def __init__(self, beton: Beton) -> None:
        self._beton = beton

    def __len__(self) -> int:
        return len(self._beton)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = operator.index(i) + (len(self) if i < 0 else 0)
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)} in {self._beton.path!r}")
        side = self._beton._side
        return f"{self._beton.path}#{i}" if side is None else name_at(self._beton.data(), side, i)
