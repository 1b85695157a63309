"""A GPU that does nothing and writes everything down: a fake libcuda in C, and torch.cuda's part in Python.

    copy, event, wait, free (torch)  --noted--\
                                               one log, in order -> `hazards`: what a real GPU could get wrong
    launch (fake_cuda.c)             --written-/

A tensor "on the GPU" is a CPU tensor that says otherwise; torch's operations on it are done at once, kernels
not at all. `hazards` reads the log alone, and assumes of the GPU only what CUDA promises: the order within a
stream, and what events say.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import subprocess
import weakref
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from fastpipe.device import transfer
from fastpipe.kernels.cuda import finish_ops as cuda_finish_ops
from fastpipe.kernels.cuda import ops as cuda_ops
from fastpipe.kernels.cuda.driver import Driver

SOURCE = Path(__file__).with_name("fake_cuda.c")
DEVICE = torch.device("cuda", 0)
MAIN = 0  # the script's stream

_T = torch.Tensor
# What asks a tensor for a property, or makes a view of it, is no work of the device.
_NO_WORK = {
    *("size", "stride", "dim", "numel", "element_size", "data_ptr", "untyped_storage", "storage_offset"),
    *("is_contiguous", "__len__", "__get__", "view", "permute", "reshape", "expand", "as_strided", "unbind"),
    *("is_floating_point", "nbytes", "is_complex", "flatten"),
}


def compiled(folder: Path) -> Path:
    """The fake driver as a shared library, by gcc with every warning an error."""
    library = folder / "libfakecuda.so"
    command = [
        "gcc",
        "-std=c11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
    ]
    subprocess.run([*command, str(SOURCE)], check=True, timeout=120)
    return library


class Stream:
    """As torch.cuda.Stream."""

    numbers = itertools.count(1)

    def __init__(self, gpu: Gpu, number: int | None = None) -> None:
        self.gpu = gpu
        self.cuda_stream = next(Stream.numbers) if number is None else number

    def wait_event(self, event: Event) -> None:
        self.gpu.note(f"wait {self.cuda_stream} {event.number}")

    def synchronize(self) -> None:
        self.gpu.note(f"sync_stream {self.cuda_stream}")


class Event:
    """As torch.cuda.Event. It is over when the test says so: `Gpu.finish`."""

    numbers = itertools.count(1)

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.number = gpu, next(Event.numbers)
        gpu.unfinished.add(self.number)

    def record(self, stream: Stream) -> None:
        self.gpu.note(f"record {stream.cuda_stream} {self.number}")

    def query(self) -> bool:
        done = self.number not in self.gpu.unfinished
        if done:
            self.gpu.note(f"sync_event {self.number}")
        return done


class Gpu(TorchFunctionMode):
    """The GPU, its log, and inside `with` what torch does with it."""

    def __init__(self, library: Path) -> None:
        super().__init__()
        self.driver = ctypes.CDLL(str(library))
        self.driver.fake_log.restype = ctypes.c_char_p
        self.driver.fake_forget()
        self.driver.fake_new_thread()
        self.unfinished: set[int] = set()
        self.memory: dict[int, int] = {}
        self.pinned: dict[int, int] = {}
        self.main = Stream(self, MAIN)
        self.current = self.main

    def note(self, line: str) -> None:
        self.driver.fake_note(line.encode())

    def log(self) -> list[str]:
        """One line for each thing that was asked for, in order."""
        return str(self.driver.fake_log().decode()).splitlines()

    def fail(self, name: str, code: int) -> None:
        """Let the next driver call of this name return an error."""
        self.driver.fake_fail(name.encode(), code)

    def finish(self) -> None:
        """The device has done all that was asked for; the host sees it when it asks."""
        self.unfinished.clear()

    @contextlib.contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def base(self, tensor: _T, among: dict[int, int]) -> int | None:
        """Where the piece of memory begins that the tensor lies in; None where it is of another kind."""
        with torch._C.DisableTorchFunction():
            at = tensor.data_ptr()
        return next((base for base, size in among.items() if base <= at < base + size), None)

    def adopt(self, made: _T, among: dict[int, int], kind: str) -> _T:
        """The tensor in memory of this kind, whose end is noted."""
        size = max(made.untyped_storage().nbytes(), 1)
        memory = np.zeros(size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        lease = memory[start : start + size]
        base = lease.ctypes.data
        among[base] = size
        self.note(f"alloc_{kind} {base} {size} {self.current.cuda_stream}")
        weakref.finalize(lease, self.freed, memory, base, among, kind).atexit = False
        flat = torch.from_numpy(lease)[: made.untyped_storage().nbytes()].view(made.dtype)
        return flat.as_strided(made.shape, made.stride(), made.storage_offset()).copy_(made)

    def freed(self, memory: Any, base: int, among: dict[int, int], kind: str) -> None:
        del among[base]
        self.note(f"free_{kind} {base}")

    def host(self, array: np.ndarray[Any, Any]) -> _T:
        """Page-locked memory that torch's allocator knows nothing of, as a worker's shared memory is."""
        size, base = array.nbytes, array.ctypes.data
        self.pinned[base] = size
        return torch.from_numpy(array)

    def record_stream(self, tensor: _T, stream: Stream) -> None:
        if tensor.numel():  # an empty tensor has no memory
            self.note(f"record_stream {self.base(tensor, self.memory)} {stream.cuda_stream}")

    def read(self, tensor: _T) -> None:
        """The script's model reads a tensor on the script's current stream."""
        self.note(f"op {self.current.cuda_stream} model {self.base(tensor, self.memory)}")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, _T)]
        bases = [base for value in tensors if (base := self.base(value, self.memory)) is not None]
        if func == _T.device.__get__:  # type: ignore[attr-defined]
            return DEVICE if bases else func(*args)
        if func == _T.is_cuda.__get__:  # type: ignore[attr-defined]
            return bool(bases)
        if func is _T.is_pinned:
            return self.base(args[0], self.pinned) is not None
        if func is _T.pin_memory:
            return self.adopt(args[0], self.pinned, "pinned")
        if func is _T.to and DEVICE in args:  # what is there already is not copied
            return args[0] if bases else self.copied(args[0], bool(kwargs.get("non_blocking")))
        placed = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda"
        if placed:
            kwargs["device"] = "cpu"
        result = func(*args, **kwargs)
        if not (placed or bases) or name in _NO_WORK:
            return result
        if isinstance(result, _T) and self.base(result, self.memory) is None:
            result = self.adopt(result, self.memory, "device")
            bases.append(self.base(result, self.memory) or 0)
        if not name.startswith(("empty", "new_empty")):
            self.note(f"op {self.current.cuda_stream} {name} {' '.join(map(str, bases))}")
        return result

    def copied(self, source: _T, non_blocking: bool) -> _T:
        made = self.adopt(source, self.memory, "device")
        pinned = self.base(source, self.pinned)
        word = "copy" if non_blocking and pinned is not None else "copy_that_waits"
        stream = self.current.cuda_stream
        self.note(f"{word} {stream} {self.base(made, self.memory)} {pinned if pinned is not None else 0}")
        return made


def installed(monkeypatch: pytest.MonkeyPatch, library: Path) -> Gpu:
    """A fake GPU in place of torch.cuda and of the driver."""
    gpu = Gpu(library)
    driver = Driver(gpu.driver)
    monkeypatch.setattr(Driver, "shared", lambda: driver)
    # As a function: torch's own refuses another stream than its own before any mode sees it.
    monkeypatch.setattr(_T, "record_stream", lambda tensor, stream: gpu.record_stream(tensor, stream))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(gpu))
    monkeypatch.setattr(torch.cuda, "Event", lambda: Event(gpu))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: gpu.current)
    monkeypatch.setattr(torch.cuda, "stream", gpu.on)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    for module, names in ((cuda_ops, ("fused", "erase_boxes")), (cuda_finish_ops, ("picked", "resized"))):
        for name in names:
            kernel = {"erase_boxes": "_erase_cuda"}.get(name, f"_{name}_cuda")
            monkeypatch.setattr(module, name, _direct(name, getattr(module, kernel)))
    monkeypatch.setattr(cuda_finish_ops, "mix_into", cuda_finish_ops._mix_cuda)
    for kept in (cuda_ops._load_kernels, cuda_ops._identity_levels, transfer.side_stream):
        kept.cache_clear()
    return gpu


def _direct(name: str, kernel: Any) -> Any:
    """The operation without torch's dispatcher, which would see a CPU tensor."""
    if name == "resized":
        return lambda *args: kernel(*args[:5], *args[5], args[6])
    return kernel


def hazards(log: list[str]) -> list[str]:
    """What a GPU that keeps only CUDA's promises could get wrong; empty where nothing.

    Every stream has a clock; an event carries its stream's clock to who waits for it. Two pieces of work on
    one piece of memory must be ordered, and memory may only go when its work is known to be done, or ordered
    by the allocator: on the stream that it was made on, and on those of record_stream.
    """
    found: list[str] = []
    clocks: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    known: dict[int, int] = defaultdict(int)  # how far the host knows each stream to be
    events: dict[int, dict[int, int]] = {}
    touched: dict[int, dict[int, int]] = defaultdict(dict)  # memory -> stream -> its last work there
    owners: dict[int, set[int]] = {}
    torchs: set[int] = set()  # pinned by torch: its allocator waits by itself
    pieces: dict[int, int] = {}

    def merge(into: dict[int, int], other: dict[int, int]) -> None:
        for stream, time in other.items():
            into[stream] = max(into[stream], time)

    def work(stream: int, bases: list[int], line: str) -> None:
        clock = clocks[stream]
        merge(clock, known)
        clock[stream] += 1
        for base in bases:
            for other, time in touched[base].items():
                if other != stream and clock[other] < time:
                    found.append(f"unordered with stream {other}: {line}")
            touched[base][stream] = clock[stream]

    def end(base: int, allowed: set[int], line: str) -> None:
        for stream, time in touched.pop(base, {}).items():
            if stream not in allowed and known[stream] < time:
                found.append(f"reused while stream {stream} may still use it: {line}")

    for line in log:
        word, *rest = line.split()
        if word in ("alloc_device", "alloc_pinned"):
            base, size, stream = map(int, rest)
            pieces[base], owners[base] = size, {stream}
            torchs |= {base} if word == "alloc_pinned" else set()
        elif word in ("copy", "copy_that_waits"):
            stream, target, source = map(int, rest)
            work(stream, [target, *([source] if source and source not in torchs else [])], line)
            if word == "copy_that_waits":
                found.append(f"the host waits: {line}")
        elif word == "op":
            work(int(rest[0]), [int(base) for base in rest[2:]], line)
        elif word == "launch":
            pointers = [int(value[1:]) for value in rest[4:] if value[0] == "p"]
            inside = [_piece(pieces, at) for at in pointers if at]  # 0: a buffer that is empty
            if None in inside:
                found.append(f"a pointer into no memory of the device: {line}")
            work(int(rest[0]), [base for base in inside if base is not None], line)
        elif word == "record":
            clock = clocks[int(rest[0])]
            merge(clock, known)
            events[int(rest[1])] = dict(clock)
        elif word == "wait":
            merge(clocks[int(rest[0])], events.get(int(rest[1]), {}))
        elif word == "sync_event":
            merge(known, events.get(int(rest[0]), {}))
        elif word == "sync_stream":
            merge(known, dict(clocks[int(rest[0])]))
        elif word == "record_stream":
            owners[int(rest[0])].add(int(rest[1]))
        elif word == "free_device":
            end(int(rest[0]), owners.get(int(rest[0]), set()), line)
            pieces.pop(int(rest[0]), None)
        elif word == "reuse":
            end(int(rest[0]), set(), line)
    return found


def _piece(pieces: dict[int, int], at: int) -> int | None:
    return next((base for base, size in pieces.items() if base <= at < base + size), None)
