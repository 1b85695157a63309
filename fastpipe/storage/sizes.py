"""Sizes of files and images, read on request and kept in the index and its cache.

B requested ids.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastpipe.broken import decoding
from fastpipe.errors import ArgumentError, SampleError
from fastpipe.storage.index import FolderIndex
from fastpipe.storage.index_file import write_facts
from fastpipe.storage.progress import Progress, reporting

__all__ = ["file_sizes", "image_sizes"]

_log = logging.getLogger("fastpipe.storage")


def image_sizes(
    index: FolderIndex, ids: Iterable[int] | npt.NDArray[np.integer], *, progress: Progress | None = None
) -> npt.NDArray[np.int32]:
    """Return int32 [B,2]: height and width of each image as stored (EXIF orientation not applied).

    Reads the headers of images not yet known, never pixels, and keeps the sizes in the index and its cache.
    Raises SampleError for a file that is missing or not an image.
    """
    ids = _checked_ids(index, ids)
    missing = np.unique(ids[index.image_hw[ids, 0] == 0])
    if len(missing):
        _read_all(index, missing, _read_header, "Reading image sizes", progress)
    return index.image_hw[ids]


def file_sizes(
    index: FolderIndex, ids: Iterable[int] | npt.NDArray[np.integer], *, progress: Progress | None = None
) -> npt.NDArray[np.int64]:
    """Return int64 [B]: the size of each file in bytes, looked up once and kept like `image_sizes`.

    Raises SampleError for a file that is missing.
    """
    ids = _checked_ids(index, ids)
    missing = np.unique(ids[index.num_bytes[ids] < 0])
    if len(missing):
        _read_all(index, missing, _read_size, "Reading file sizes", progress)
    return index.num_bytes[ids]


def _checked_ids(index: FolderIndex, ids: Iterable[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
    if len(array) and (array.min() < 0 or array.max() >= len(index)):
        raise ArgumentError(f"ids must be in 0..{len(index) - 1}. Found: {array.min()}..{array.max()}")
    return array


def _read_all(
    index: FolderIndex,
    ids: npt.NDArray[np.int64],
    read: Callable[[FolderIndex, int], None],
    label: str,
    progress: Progress | None,
) -> None:
    num_read = 0
    try:
        with reporting(label, progress) as report:
            for i in ids:
                read(index, int(i))
                num_read += 1
                report(num_read, len(ids))
    finally:  # Sizes read before a bad file are kept.
        _keep_facts(index, ids[:num_read])


def _read_size(index: FolderIndex, i: int) -> None:
    path = index.path(i)
    try:
        index.num_bytes[i] = os.stat(path).st_size
    except OSError as err:
        raise SampleError(f"{path!r} cannot be read: {err.strerror}", path=path, sample_id=i) from err


def _read_header(index: FolderIndex, i: int) -> None:
    path = index.path(i)
    with decoding(partial(_unreadable, path, i)), open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        with Image.open(file) as image:
            width, height = image.size
    index.num_bytes[i] = num_bytes
    index.image_hw[i] = height, width


def _unreadable(path: str, i: int, error: Exception) -> SampleError:
    return SampleError(
        f"{path!r} is not a readable image: {type(error).__name__}: {error}. Remove or replace the file.",
        path=path,
        sample_id=i,
    )


def _keep_facts(index: FolderIndex, ids: npt.NDArray[np.int64]) -> None:
    if not index.cache_file or not len(ids):
        return
    try:
        write_facts(index.cache_file, index.cache_id, ids, index.num_bytes[ids], index.image_hw[ids])
    except OSError as err:  # A cache on read-only storage, or one deleted since.
        _log.info("sizes not kept in %r (%s)", index.cache_file, err.strerror)
