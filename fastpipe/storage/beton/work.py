"""What the processes of the `.beton` writer share, and what each of them does.

Images are placed in the order of their ids, so the file's bytes do not depend on the number of processes.
Chunks of ids are taken in order. A process may encode ahead of its turn as long as it holds less than
BUFFER_BYTES, and the process whose turn it is always continues, so no two can wait for each other.
"""

from __future__ import annotations

import os
import signal
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from fastpipe.errors import DataError, SampleError
from fastpipe.storage.beton.encode import Encoded, Encoding, encode_file
from fastpipe.storage.beton.format import MAX_PAGE
from fastpipe.storage.index import FolderIndex

CHUNK: Final = 32
BUFFER_BYTES: Final = 64 << 20
RECORD: Final = np.dtype(
    [
        ("id", "<i8"),
        ("mode", "u1"),
        ("kept", "?"),
        ("height", "<u2"),
        ("width", "<u2"),
        ("ptr", "<u8"),
        ("size", "<u8"),
        ("crc", "<u4"),
    ]
)
_POLL_S = 0.5


class Stopped(Exception):
    """The writer has stopped; leave quietly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is written, and into which file."""

    index: FolderIndex
    encoding: Encoding
    path: str
    skip: bool


class Shared:
    """Counters that all processes see: the next chunk to take, whose turn it is, where the file ends."""

    def __init__(self, context: Any, position: int, page: int) -> None:
        self.changed = context.Condition()
        self.next_chunk = context.RawValue("q", 0)
        self.turn = context.RawValue("q", 0)
        self.position = context.RawValue("Q", position)
        self.page = context.RawValue("Q", page)
        self.stop = context.RawValue("b", 0)

    def take(self) -> int:
        """The number of the next chunk that nobody has taken."""
        with self.changed:
            chunk = int(self.next_chunk.value)
            self.next_chunk.value = chunk + 1
            return chunk

    def pass_turn(self) -> None:
        """Announce that the chunk whose turn it was is in the file."""
        with self.changed:
            self.turn.value += 1
            self.changed.notify_all()

    def wait_for(self, chunk: int, check: Callable[[], None]) -> None:
        """Sleep until it is this chunk's turn, calling `check` from time to time."""
        with self.changed:
            while self.turn.value != chunk:
                check()
                self.changed.wait(_POLL_S)


def place(position: int, page: int, size: int) -> tuple[int, int]:
    """Where `size` bytes go if the file ends at `position`, and the page size from then on.

    They must not cross a multiple of the page size, which grows to the next power of two that holds them.
    What is within a page is within the larger one too, because pages are counted from the start of the file.
    Raises DataError for more than 2 GiB, the largest page of the format.
    """
    while page < size:
        page *= 2
    if page > MAX_PAGE:
        raise DataError(f"{size} bytes for one image is more than the format's {MAX_PAGE}")
    if position % page + size > page:
        position += page - position % page
    return position, page


@dataclass(slots=True, kw_only=True)
class _Chunk:
    number: int
    last: int
    waiting: deque[tuple[int, Encoded]] = field(default_factory=deque)
    records: list[tuple[Any, ...]] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    encoded_all: bool = False


class Worker:
    """Encodes chunks and writes each in its turn, then calls `report(records, skipped)` for it."""

    def __init__(
        self,
        job: Job,
        shared: Shared,
        report: Callable[[npt.NDArray[Any], list[tuple[int, str]]], None],
        parent: int | None,
    ) -> None:
        self.job, self.shared, self.report, self.parent = job, shared, report, parent
        self.chunks: deque[_Chunk] = deque()
        self.held = 0
        self.file: BinaryIO

    def steps(self) -> Iterator[None]:
        """Work until no chunk is left, one chunk in each step.

        Raises SampleError, DataError and OSError, and Stopped when the writer has stopped.
        """
        with open(self.job.path, "r+b", buffering=0) as self.file:
            total = len(self.job.index)
            while (number := self.shared.take()) * CHUNK < total:
                self._encode_chunk(number, min((number + 1) * CHUNK, total))
                yield
            while self.chunks:
                self.shared.wait_for(self.chunks[0].number, self.check)
                self._write_ready()
            yield

    def check(self) -> None:
        """Raise Stopped if another process failed or the parent has died."""
        if self.shared.stop.value or (self.parent is not None and os.getppid() != self.parent):
            raise Stopped

    def _encode_chunk(self, number: int, last: int) -> None:
        chunk = _Chunk(number=number, last=last)
        self.chunks.append(chunk)
        for i in range(number * CHUNK, last):
            self.check()
            try:
                encoded = encode_file(self.job.index.path(i), i, self.job.encoding)
                place(0, 1, len(encoded.data))
            except (SampleError, DataError) as err:
                if not self.job.skip:
                    raise
                chunk.skipped.append((i, str(err)))
                continue
            chunk.waiting.append((i, encoded))
            self.held += len(encoded.data)
            self._write_ready()
            while self.held > BUFFER_BYTES:
                self.shared.wait_for(self.chunks[0].number, self.check)
                self._write_ready()
        chunk.encoded_all = True
        self._write_ready()

    def _write_ready(self) -> None:
        """Write what we hold of the chunk whose turn it is, and of the next, if that is ours too."""
        while self.chunks and self.shared.turn.value == self.chunks[0].number:
            chunk = self.chunks[0]
            while chunk.waiting:
                i, encoded = chunk.waiting.popleft()
                self._write(chunk, i, encoded)
            if not chunk.encoded_all:
                return
            self.chunks.popleft()
            self.shared.pass_turn()
            self.report(np.array(chunk.records, RECORD), chunk.skipped)

    def _write(self, chunk: _Chunk, i: int, encoded: Encoded) -> None:
        size = len(encoded.data)
        ptr, page = place(self.shared.position.value, self.shared.page.value, size)
        self.shared.page.value = page
        self.shared.position.value = ptr + size
        self.file.seek(ptr)
        data = memoryview(encoded.data)
        while len(data):  # a write may be short, for example on a full disk; the next one raises the reason
            data = data[self.file.write(data) :]
        crc = zlib.crc32(encoded.data)
        image = (encoded.mode, encoded.kept, encoded.height, encoded.width)
        chunk.records.append((i, *image, ptr, size, crc))
        self.held -= size


def run_process(job: Job, shared: Shared, pipe: Any, parent: int) -> None:
    """The life of a worker process; errors travel to the parent through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which stops us.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        worker = Worker(job, shared, lambda records, skipped: pipe.send((records, skipped)), parent)
        for _ in worker.steps():
            pass
        pipe.send(None)
    except (Stopped, BrokenPipeError):
        return
    except Exception as err:  # of any kind: the parent raises it
        shared.stop.value = 1
        pipe.send(err)
