"""Writes an image folder as a `.beton` file that fastpipe and stock FFCV can read. N images written."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from fastpipe.errors import ArgumentError, DataError, EmptyDatasetError, SampleError
from fastpipe.storage.beton.encode import Encoding
from fastpipe.storage.beton.file import Beton
from fastpipe.storage.beton.format import (
    ALLOCATION,
    DEFAULT_PAGE,
    DESCRIPTOR,
    HEADER,
    INT_KIND,
    JPEG,
    RGB_KIND,
    VERSION,
    row_dtype,
)
from fastpipe.storage.beton.side import write_side
from fastpipe.storage.beton.target import sync_folder, unfinished, unwritable
from fastpipe.storage.beton.work import CHUNK, Job, Shared, Worker, run_process
from fastpipe.storage.index import FolderIndex, open_index
from fastpipe.storage.progress import Progress, reporting
from fastpipe.system.cgroups import usable_cpus
from fastpipe.system.files import replace_file

__all__ = ["Written", "write_beton"]

_KINDS = [RGB_KIND, INT_KIND]
_NAMES = (b"image", b"label")
_ROWS_START = HEADER.itemsize + len(_KINDS) * DESCRIPTOR.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Contents of a `.beton` file: images by the way they are stored, bytes, largest sides in pixels.

    `skipped` are the images that were left out; `skipped_list` is the JSON-lines file that names them, ""
    for none.
    """

    path: str
    num_images: int
    num_kept: int
    num_jpeg: int
    num_raw: int
    num_bytes: int
    page_size: int
    max_height: int
    max_width: int
    skipped: int
    skipped_list: str

    def ffcv_scratch_bytes(self, batch_size: int, batches_ahead: int = 3) -> int:
        """What ffcv.Loader pins for decoding alone: (ahead + 2) x B x largest height x largest width x 3."""
        return (batches_ahead + 2) * batch_size * self.max_height * self.max_width * 3


def write_beton(
    source: FolderIndex | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    max_resolution: int | None = None,
    quality: int | None = None,
    raw: bool = False,
    proportion: float | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write the images of a folder (see `open_index`) to the `.beton` file `path`.

    With the defaults JPEG files of one or three components keep their bytes and every other image is stored
    as raw RGB: nothing is lost. `Encoding` describes the alternatives. The file is the same for every
    `num_workers` (None: one for each CPU, 0: in this process). It is written under another name in the same
    folder, checked and renamed; a failure leaves `path` as it was.

    on_error="skip" leaves out images that cannot be read and lists them in PATH.skipped.jsonl.
    Raises SampleError naming the first bad image, ArgumentError, DataError (a full disk, a killed process).
    """
    encoding = Encoding(
        max_resolution=max_resolution, quality=quality, raw=raw, proportion=proportion, seed=seed
    )
    final = os.path.expanduser(os.fsdecode(path))
    _check_arguments(final, on_error, num_workers, overwrite)
    with unfinished(final) as temporary:
        index = source if isinstance(source, FolderIndex) else open_index(source)
        if not len(index):
            raise EmptyDatasetError(f"{index.root!r} contains no image")
        job = Job(index=index, encoding=encoding, path=temporary, skip=on_error == "skip")
        try:
            written = _write(job, final, _workers(num_workers, len(index)), progress)
            os.replace(temporary, final)
            sync_folder(final)
        except OSError as err:
            if isinstance(err, DataError):
                raise
            raise unwritable(final, err) from err
    return written


def _check_arguments(path: str, on_error: str, num_workers: int | None, overwrite: bool) -> None:
    if on_error not in ("raise", "skip"):
        raise ArgumentError(f"on_error must be 'raise' or 'skip'. Found: {on_error!r}")
    if num_workers is not None and num_workers < 0:
        raise ArgumentError(f"num_workers must be None or an int >= 0. Found: {num_workers!r}")
    if not path.lower().endswith(".beton"):
        raise ArgumentError(
            f"path must end in .beton, because DataLoader recognises the file by its name. Found: {path!r}"
        )
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ArgumentError(
            f"the folder of path must exist. Found: {path!r}. Create it with mkdir -p, or name another"
        )
    if os.path.exists(path) and not overwrite:
        raise ArgumentError(f"{path!r} exists already; remove it, or pass overwrite=True (--overwrite)")


def _workers(asked: int | None, num_images: int) -> int:
    if asked is None:
        asked = max(1, int(usable_cpus()))
    return min(asked, -(-num_images // CHUNK))


def _write(job: Job, final: str, num_workers: int, progress: Progress | None) -> Written:
    total = len(job.index)
    rows_end = _ROWS_START + total * row_dtype(_KINDS).itemsize
    context = multiprocessing.get_context()
    shared = Shared(context, -(-rows_end // DEFAULT_PAGE) * DEFAULT_PAGE, DEFAULT_PAGE)
    parts: list[npt.NDArray[Any]] = []
    skipped: list[tuple[int, str]] = []
    with reporting(f"Writing {final}", progress) as report:
        done = 0
        for records, left_out in _chunks(context, job, shared, num_workers):
            parts.append(records)
            skipped.extend(left_out)
            done += len(records) + len(left_out)
            report(done, total)
    records = np.sort(np.concatenate(parts), order="id")
    if len(records) + len(skipped) != total:
        raise DataError(f"{len(records)} of {total} images arrived; the file was not written")
    if not len(records):
        raise SampleError(f"none of the {total} images can be read. First: {skipped[0][1]}")
    with open(job.path, "r+b") as file:
        _finish(file, job, records, shared)
        file.flush()
        os.fsync(file.fileno())
    _check(job, records)
    return _summary(final, job, records, sorted(skipped), int(shared.page.value))


def _chunks(
    context: Any, job: Job, shared: Shared, num_workers: int
) -> Iterator[tuple[npt.NDArray[Any], list[tuple[int, str]]]]:
    if num_workers:
        yield from _from_processes(context, job, shared, num_workers)
        return
    finished: list[tuple[npt.NDArray[Any], list[tuple[int, str]]]] = []
    worker = Worker(job, shared, lambda records, skipped: finished.append((records, skipped)), None)
    for _ in worker.steps():
        yield from finished
        finished.clear()


def _from_processes(
    context: Any, job: Job, shared: Shared, num_workers: int
) -> Iterator[tuple[npt.NDArray[Any], list[tuple[int, str]]]]:
    pipes: dict[Any, Any] = {}
    processes = []
    try:
        for _ in range(num_workers):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=run_process, args=(job, shared, theirs, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            pipes[ours] = process
            processes.append(process)
        while pipes:
            for pipe in wait(list(pipes)):
                message = _receive(pipe, pipes[pipe])
                if message is None:
                    del pipes[pipe]
                elif isinstance(message, BaseException):
                    raise message
                else:
                    yield message
    finally:
        shared.stop.value = 1
        for process in processes:
            if pipes:  # not all of them finished
                process.terminate()
            process.join()


def _receive(pipe: Any, process: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        process.join()
        raise DataError(
            f"a writing process ended with code {process.exitcode} before it finished "
            "(a negative code is a signal; the kernel sends 9 if memory runs out: use fewer workers)"
        ) from None


def _finish(file: BinaryIO, job: Job, records: npt.NDArray[Any], shared: Shared) -> None:
    """Write our section, allocation table, rows, descriptors and, last, the header, which makes it valid."""
    index, count = job.index, len(records)
    file.seek(-(-int(shared.position.value) // 8) * 8)
    offsets, names = _names(index, records["id"])
    about = {"writer": "fastpipe", "root": os.path.basename(index.root), **asdict(job.encoding)}
    arguments = write_side(
        file,
        classes=index.classes,
        about=about,
        checksums=records["crc"],
        offsets=offsets,
        names=names,
    )
    table = np.zeros(count, ALLOCATION)
    table["sample_id"], table["ptr"], table["size"] = np.arange(count), records["ptr"], records["size"]
    table_start = file.tell()
    file.write(table.tobytes())
    rows = np.zeros(count, row_dtype(_KINDS))
    image = rows["f0"]
    image["mode"], image["width"], image["height"] = records["mode"], records["width"], records["height"]
    image["data_ptr"] = records["ptr"]
    rows["f1"] = index.labels[records["id"]]
    file.seek(_ROWS_START)
    file.write(rows.tobytes())
    descriptors = np.zeros(len(_KINDS), DESCRIPTOR)
    for descriptor, kind, name in zip(descriptors, _KINDS, _NAMES, strict=True):
        descriptor["type_id"] = kind
        descriptor["name"][: len(name)] = np.frombuffer(name, np.uint8)
    descriptors[0]["arguments"][: len(arguments)] = np.frombuffer(arguments, np.uint8)
    file.seek(HEADER.itemsize)
    file.write(descriptors.tobytes())
    header = np.zeros(1, HEADER)
    header[0] = (VERSION, len(_KINDS), int(shared.page.value), count, table_start)
    file.seek(0)
    file.write(header.tobytes())


def _names(
    index: FolderIndex, ids: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Offsets [N+1] and the paths below the root of these images, each closed by a zero byte."""
    lengths = np.diff(index.offsets)
    chosen = np.zeros(len(index), np.bool_)
    chosen[ids] = True
    names = index.blob if chosen.all() else index.blob[np.repeat(chosen, lengths)]
    offsets = np.zeros(len(ids) + 1, np.uint64)
    np.cumsum(lengths[ids], out=offsets[1:])
    return offsets, names


def _check(job: Job, records: npt.NDArray[Any]) -> None:
    """Read the file back and compare; DataError if the disk returns something else."""
    beton = Beton(job.path)
    pairs = (
        (beton.pointers, "ptr"),
        (beton.lengths, "size"),
        (beton.modes, "mode"),
        (beton.heights, "height"),
    )
    same = all(np.array_equal(array, records[name]) for array, name in pairs)
    if not same or not np.array_equal(beton.labels, job.index.labels[records["id"]]):
        raise DataError("the file reads back differently; the disk or its file system is at fault")


def _summary(
    final: str, job: Job, records: npt.NDArray[Any], skipped: list[tuple[int, str]], page: int
) -> Written:
    skipped_list = f"{final}.skipped.jsonl" if skipped else ""
    if skipped:
        lines = [
            json.dumps({"id": i, "path": job.index.path(i), "reason": reason}) + "\n" for i, reason in skipped
        ]
        replace_file(skipped_list, lambda file: file.writelines(line.encode() for line in lines))
    num_jpeg = int(np.count_nonzero(records["mode"] == JPEG))
    num_kept = int(np.count_nonzero(records["kept"]))
    return Written(
        path=final,
        num_images=len(records),
        num_kept=num_kept,
        num_jpeg=num_jpeg - num_kept,
        num_raw=len(records) - num_jpeg,
        num_bytes=os.path.getsize(job.path),
        page_size=page,
        max_height=int(records["height"].max()),
        max_width=int(records["width"].max()),
        skipped=len(skipped),
        skipped_list=skipped_list,
    )
