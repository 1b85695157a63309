"""Loads PTX and launches kernels through the CUDA driver's C interface: pointers and numbers, no arrays.

The context is the device's primary one, which torch uses too, so torch's memory and streams are valid here.
A launch costs a few microseconds of Python; the driver copies the arguments before it returns.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["Driver", "DriverError"]

_OUT_OF_MEMORY = 2
# Errors after which every further call of the process fails: the context is lost (as cuda.h says).
_STICKY = frozenset({4, 46, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


class DriverError(RuntimeError):
    """A call of the CUDA driver failed.

    code: the driver's number. sticky: the context is lost, and only a new process can use the device.
    """

    def __init__(self, call: str, words: str, code: int) -> None:
        self.call, self.words, self.code = call, words, code
        self.sticky = code in _STICKY
        more = ". The process cannot use this device any more: start it anew" if self.sticky else ""
        super().__init__(f"CUDA error in {call}: {words} ({code}){more}")

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the three fields, not from the joined message."""
        return DriverError, (self.call, self.words, self.code)


class _Slots(threading.local):
    """cuLaunchKernel's `kernelParams` of this thread: 64 bits for each value, and their addresses.

    A kernel reads as many bytes as its parameter has; on every machine with CUDA the low ones come first.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}

    def of(self, count: int) -> tuple[Any, Any]:
        """The values, to be filled, and the array of their addresses."""
        if count not in self._made:
            values = (ctypes.c_uint64 * count)()
            start = ctypes.addressof(values)
            addresses = (ctypes.c_void_p * count)(*(start + 8 * place for place in range(count)))
            self._made[count] = values, addresses
        return self._made[count]


_LAUNCH_TYPES = (ctypes.c_void_p, *(ctypes.c_uint,) * 7, *(ctypes.c_void_p,) * 3)


class Driver:
    """The driver and the kernels loaded on each device. Safe to use from several threads.

    Raises torch.OutOfMemoryError if the device has no memory left, else DriverError.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library or ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        self._functions: dict[tuple[int, str], ctypes.c_void_p] = {}
        self._loading = threading.Lock()
        self._slots = _Slots()
        self._launch = self._library.cuLaunchKernel
        self._launch.argtypes = _LAUNCH_TYPES

    @classmethod
    @cache
    def shared(cls) -> Driver:
        """The process's driver. Raises OSError if none is installed."""
        return cls()

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, code: int) -> None:
        if code:
            words = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(words))
            text = (words.value or b"unknown error").decode()
            if code == _OUT_OF_MEMORY:
                raise torch.OutOfMemoryError(f"CUDA out of memory in {name}: {text} ({code})")
            raise DriverError(name, text, code)

    def version(self) -> int:
        """The CUDA version that the driver knows, 1000 * major + 10 * minor."""
        number = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(number))
        return number.value

    def enter(self, device: int) -> None:
        """Make the primary context current in this thread, if torch has not done so yet."""
        context = ctypes.c_void_p()
        self._call("cuCtxGetCurrent", ctypes.byref(context))
        if context.value:
            return
        handle = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(handle), device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
        self._call("cuCtxSetCurrent", context)

    @contextlib.contextmanager
    def apart_from_captures(self) -> Iterator[None]:
        """Inside the block, this thread is not part of a CUDA graph that another thread captures.

        torch captures in the mode "global": if any thread made a call that the capture cannot hold, such as
        an allocation, the call would fail and end the capture.
        """
        mode = ctypes.c_int(_THREAD_LOCAL)
        self._call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
        try:
            yield
        finally:
            self._call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))

    def load(self, device: int, name: str, ptx: Path) -> None:
        """Load a kernel for `device`, whose context must be current. Does nothing the second time."""
        with self._loading:
            if (device, name) in self._functions:
                return
            text = ptx.read_text()
            entry = next(line for line in text.splitlines() if ".entry" in line).split(".entry")[1]
            module, function = ctypes.c_void_p(), ctypes.c_void_p()
            self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(text.encode()))
            symbol = ctypes.c_char_p(entry.strip(" (").encode())
            self._call("cuModuleGetFunction", ctypes.byref(function), module, symbol)
            self._functions[device, name] = function

    def launch(
        self,
        device: int,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        stream: int,
        arguments: Sequence[int],
    ) -> None:
        """Launch a loaded kernel on `stream`. arguments: addresses, and numbers below 2^32."""
        values, addresses = self._slots.of(len(arguments))
        values[:] = arguments
        function = self._functions[device, name]
        self._check("cuLaunchKernel", self._launch(function, *grid, *block, 0, stream, addresses, None))
