"""Loads PTX and launches kernels through the CUDA driver's C interface: pointers and numbers, no arrays.

The context is the device's primary one, which torch uses too, so torch's memory and streams are valid here.
A launch costs a few microseconds of Python; the driver copies the arguments before it returns.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Driver", "pack_arguments"]


def pack_arguments(arguments: Sequence[tuple[bool, int]]) -> Any:
    """cuLaunchKernel's `kernelParams`: each (is a pointer, value) as 64 or 32 bits, kept alive."""
    values = [ctypes.c_uint64(value) if pointer else ctypes.c_uint32(value) for pointer, value in arguments]
    array = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    array.values = values  # type: ignore[attr-defined]
    return array


class Driver:
    """The driver and the kernels loaded on each device. Raises RuntimeError with the driver's words."""

    def __init__(self, library: Any = None) -> None:
        self._library = library or ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        self._functions: dict[tuple[int, str], ctypes.c_void_p] = {}

    @classmethod
    @cache
    def shared(cls) -> Driver:
        """The process's driver. Raises OSError where none is installed."""
        return cls()

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            words = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(words))
            raise RuntimeError(f"{name}: {(words.value or b'unknown error').decode()} ({code})")

    def enter(self, device: int) -> None:
        """Make the primary context current in this thread, where torch has not done it yet."""
        context = ctypes.c_void_p()
        self._call("cuCtxGetCurrent", ctypes.byref(context))
        if context.value:
            return
        handle = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(handle), device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
        self._call("cuCtxSetCurrent", context)

    def load(self, device: int, name: str, ptx: Path) -> None:
        """Load a kernel for `device`, whose context must be current. Does nothing the second time."""
        if (device, name) in self._functions:
            return
        text = ptx.read_text()
        entry = next(line for line in text.splitlines() if ".entry" in line).split(".entry")[1].strip(" (")
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(text.encode()))
        self._call("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(entry.encode()))
        self._functions[device, name] = function

    def launch(
        self,
        device: int,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        stream: int,
        arguments: Sequence[tuple[bool, int]],
    ) -> None:
        """Launch a loaded kernel on `stream`. arguments: (is a pointer, value)."""
        packed = pack_arguments(arguments)
        sizes = [ctypes.c_uint(size) for size in (*grid, *block, 0)]
        function = self._functions[device, name]
        self._call("cuLaunchKernel", function, *sizes, ctypes.c_void_p(stream), packed, None)
