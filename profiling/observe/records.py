"""What an observed process writes down: one small binary file each, appended batch by batch.

A record is a byte that says its kind, then a fixed struct (little endian). Times are `time.perf_counter_ns`,
which on Linux is one clock for all processes of a machine. A file may end in the middle of a record, where
its process was killed; the reader stops there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = b"FPOBS001"
_HEAD = struct.Struct("<8sqqq")  # magic, pid, loader, worker (-1: the main process)
_NAME = struct.Struct("<cHH")  # number, bytes of the name that follows
_BATCH = struct.Struct("<cqqqqqIH")  # loader, start, wall, CPU, hooks (ns), samples, stages that follow
_STAGE = struct.Struct("<HIqqq")  # name, calls, own wall, own CPU, median off CPU (ns)
_PICKLE = struct.Struct("<cqqq")  # start, wall, CPU (ns)
_SPAN = struct.Struct("<cHqq")  # name, start, wall (ns)
_MOST_BYTES = 64 << 20  # of one process; 100,000 batches of 12 stages take 40 MB
_MOST_SPANS = 50_000  # of one process: 1.9 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """The own cost of a stage within one batch, without that of stages inside it; ns.

    off is the median over its calls of the time without a CPU.
    """

    calls: int
    wall: int
    cpu: int
    off: int

    def plus(self, other: StageCost) -> StageCost:
        """Both together; off is the mean of theirs, by calls."""
        calls = self.calls + other.calls
        off = (self.off * self.calls + other.off * other.calls) // max(calls, 1)
        return StageCost(calls=calls, wall=self.wall + other.wall, cpu=self.cpu + other.cpu, off=off)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch made by a worker or a thread, or by the script itself with num_workers=0; ns.

    hooks is the part of wall that observing took; the stages' own times are without it.
    """

    loader: int
    start: int
    wall: int
    cpu: int
    hooks: int
    samples: int
    stages: dict[str, StageCost]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickle:
    """One object packed for its way to the main process, tensors moved to shared memory; ns."""

    start: int
    wall: int
    cpu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One call of one stage, for the timeline; ns."""

    name: str
    start: int
    wall: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLog:
    """What one process wrote, or one thread that makes batches in the script's process.

    worker is -1 where that is the script's own thread; torn: the file ends within a record.
    """

    pid: int
    loader: int
    worker: int
    batches: list[Batch] = field(default_factory=list)
    pickles: list[Pickle] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    torn: bool = False


class Writer:
    """Appends to `folder/PID.LOADER.WORKER.rec`, one write a record, and stops in silence at 64 MB."""

    def __init__(self, folder: Path, loader: int, worker: int) -> None:
        path = folder / f"{os.getpid()}.{loader}.{worker}.rec"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._names: dict[str, int] = {}
        self._bytes = self._num_spans = 0
        self._write(_HEAD.pack(_MAGIC, os.getpid(), loader, worker))

    def batch(self, batch: Batch, spans: list[tuple[str, int, int]]) -> None:
        """Write a batch, its stages and its spans (name, start, wall) in one piece."""
        new: list[bytes] = []
        stages = [
            _STAGE.pack(self._number(name, new), cost.calls, cost.wall, cost.cpu, cost.off)
            for name, cost in batch.stages.items()
        ]
        head = _BATCH.pack(
            b"B",
            batch.loader,
            batch.start,
            batch.wall,
            batch.cpu,
            batch.hooks,
            batch.samples,
            len(stages),
        )
        kept = spans[: max(0, _MOST_SPANS - self._num_spans)]
        self._num_spans += len(kept)
        drawn = [_SPAN.pack(b"S", self._number(name, new), start, wall) for name, start, wall in kept]
        self._write(b"".join([*new, head, *stages, *drawn]))

    def pickle(self, start: int, wall: int, cpu: int) -> None:
        """Write how long packing one object took; may be called from another thread than `batch`."""
        self._write(_PICKLE.pack(b"P", start, wall, cpu))

    def _number(self, name: str, new: list[bytes]) -> int:
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = len(self._names)
            text = name.encode()[:200]
            new.append(_NAME.pack(b"N", number, len(text)) + text)
        return number

    def _write(self, data: bytes) -> None:
        # One O_APPEND write a record: threads cannot tear each other's. A full disk must not end the script.
        self._bytes += len(data)
        if self._bytes <= _MOST_BYTES:
            try:
                os.write(self._handle, data)
            except OSError:
                self._bytes = _MOST_BYTES + 1


def read_folder(folder: Path) -> list[ProcessLog]:
    """Every log of `folder` that has at least its head, by name."""
    found = (read_log(path.read_bytes()) for path in sorted(folder.glob("*.rec")))
    return [log for log in found if log is not None]


def read_log(data: bytes) -> ProcessLog | None:
    """The records of one file, as far as they are whole; None without a head."""
    if len(data) < _HEAD.size:
        return None
    magic, pid, loader, worker = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        return None
    batches: list[Batch] = []
    pickles: list[Pickle] = []
    spans: list[Span] = []
    torn = False
    try:
        for record in _records(data):
            if isinstance(record, Batch):
                batches.append(record)
            elif isinstance(record, Pickle):
                pickles.append(record)
            else:
                spans.append(record)
    except (struct.error, KeyError, UnicodeDecodeError):
        torn = True
    return ProcessLog(
        pid=pid, loader=loader, worker=worker, batches=batches, pickles=pickles, spans=spans, torn=torn
    )


def _records(data: bytes) -> Iterator[Batch | Pickle | Span]:
    names: dict[int, str] = {}
    at = _HEAD.size
    while at < len(data):
        kind = data[at : at + 1]
        if kind == b"N":
            _, number, length = _NAME.unpack_from(data, at)
            at += _NAME.size
            if at + length > len(data):
                raise struct.error("the name is cut off")
            names[number] = data[at : at + length].decode()
            at += length
        elif kind == b"B":
            batch, at = _read_batch(data, at, names)
            yield batch
        elif kind == b"P":
            _, start, wall, cpu = _PICKLE.unpack_from(data, at)
            at += _PICKLE.size
            yield Pickle(start=start, wall=wall, cpu=cpu)
        elif kind == b"S":
            _, number, start, wall = _SPAN.unpack_from(data, at)
            at += _SPAN.size
            yield Span(name=names[number], start=start, wall=wall)
        else:
            raise struct.error(f"no record begins with {kind!r}")


def _read_batch(data: bytes, at: int, names: dict[int, str]) -> tuple[Batch, int]:
    _, loader, start, wall, cpu, hooks, samples, num = _BATCH.unpack_from(data, at)
    at += _BATCH.size
    stages: dict[str, StageCost] = {}
    for _ in range(num):
        number, calls, own, own_cpu, off = _STAGE.unpack_from(data, at)
        at += _STAGE.size
        stages[names[number]] = StageCost(calls=calls, wall=own, cpu=own_cpu, off=off)
    batch = Batch(loader=loader, start=start, wall=wall, cpu=cpu, hooks=hooks, samples=samples, stages=stages)
    return batch, at
