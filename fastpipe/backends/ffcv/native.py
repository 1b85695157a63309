"""FFCV's native decode and resize, called by address: only this module loads its library.

The Python package `ffcv` is never imported: that takes seconds, needs cv2 and compiles with numba. We only
use a shared library with a C interface (ffcv 1.0.2, libffcv/libffcv.cpp), which needs none of that.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from fastpipe.decode import Box
from fastpipe.errors import BackendError, MissingExtraError
from fastpipe.extras import install_command
from fastpipe.types import Availability, Size

INSTALL: Final = (
    "apt-get install libopencv-dev libturbojpeg0-dev pkg-config g++ python3-dev, then "
    f"{install_command('ffcv')} (pip's opencv-python brings no headers and no shared "
    "libraries: it does not replace libopencv-dev)"
)

# T.81 table B.1: start of frame, all coding processes; C4, C8 and CC are other markers.
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})


class Native:
    """The two functions of `library`, from `path`. Both release the GIL; neither keeps an address.

    Raises OSError if the library, or one it is linked to, cannot be loaded, AttributeError if it lacks a
    function.
    """

    def __init__(self, path: Path) -> None:
        self.library = library = ctypes.CDLL(str(path))
        self._imdecode = library.imdecode
        self._imdecode.restype = ctypes.c_int
        # source, its bytes; height and width, unused; target; height, width, x, y, scale 1/1; crop, flip
        self._imdecode.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.c_void_p,
            *[ctypes.c_uint32] * 6,
            ctypes.c_bool,
            ctypes.c_bool,
        ]
        self._resize = library.resize
        self._resize.restype = None
        self._resize.argtypes = [ctypes.c_int64] * 11

    def decode(self, source: int, num_bytes: int, target: int, size: Size) -> bool:
        """Decode a JPEG to uint8 RGB [*size, 3] at `target`; False if the library finds fault with it.

        The scale is the largest of 2/1, 15/8, .. 1/8 at which the frame fits into `size`, and rows are packed
        at the scaled width (tjDecompress2): at most height * width * 3 bytes are written, whatever the file
        holds. Rows have the width in `size` only if `size` is the frame's own size, or that size at some
        eighths, rounded up.
        Truncated, damaged and four-channel files give False (-1 in C; FFCV itself does not look).
        """
        height, width = size
        return not self._imdecode(
            source, num_bytes, height, width, target, height, width, 0, 0, 1, 1, False, False
        )

    def resize(self, source: int, size: Size, box: Box, target: int, target_size: Size) -> None:
        """cv::resize with INTER_AREA of `box` of the uint8 RGB image [*size, 3] to [*target_size, 3].

        Raises ValueError for a box that is empty or leaves the image, which would end the process in C.
        """
        bottom, right = box.top + box.height, box.left + box.width
        inside = 0 <= box.top < bottom <= size[0] and 0 <= box.left < right <= size[1]
        if not inside or min(target_size) < 1:
            raise ValueError(
                f"{box} of an image of {size[0]} x {size[1]} pixels (height x width) cannot be resized to "
                f"{target_size[0]} x {target_size[1]}"
            )
        self._resize(0, source, *size, box.top, bottom, box.left, right, target, *target_size)


class Scratch:
    """Memory of one thread for one image, grown as needed."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, dtype=np.uint8)

    def image(self, size: Size) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Room for uint8 [*size, 3], not cleared. Earlier content is lost."""
        num_bytes = size[0] * size[1] * 3
        if num_bytes > len(self._buffer):
            self._buffer = np.empty(0, dtype=np.uint8)  # free the old one first
            self._buffer = np.empty(num_bytes, dtype=np.uint8)
        return self._buffer[:num_bytes].reshape(*size, 3)


def jpeg_frame(data: bytes | memoryview) -> Size | None:
    """(height, width) in the frame header of a JPEG; None if there is none.

    Source of the layout: ITU-T T.81, annex B. Reads nothing beyond `data`.
    """
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    at, end = 2, len(data) - 9
    while at < end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            return data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        else:  # a length below 2 is damage, which the code below finds
            at += 2 + max(data[at + 2] << 8 | data[at + 3], 2)
    return None


def _find_library() -> Path | None:
    """The extension module `_libffcv` inside the package `ffcv`, or None if that is not installed."""
    spec = importlib.util.find_spec("ffcv")  # finds it without running its code
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = Path(folder, f"_libffcv{suffix}")
            if path.is_file():
                return path
    raise BackendError(
        f"the package ffcv at {spec.origin!r} has no compiled library _libffcv for this Python. "
        f"Reinstall it: {INSTALL}"
    )


@lru_cache(maxsize=1)
def open_native() -> Native:
    """FFCV's library, loaded once. MissingExtraError without ffcv, BackendError if it does not load."""
    path = _find_library()
    if path is None:
        raise MissingExtraError("ffcv", "ffcv", 'backend="ffcv"')
    try:
        return Native(path)
    except (OSError, AttributeError) as error:
        raise BackendError(
            f"FFCV's library cannot be loaded: {error}. It was built against an OpenCV or libjpeg-turbo "
            f"that is not installed (any more). Build it again (--force-reinstall --no-cache-dir): {INSTALL}"
        ) from error


def availability() -> Availability:
    """Whether the library is here and loads. Never raises."""
    try:
        open_native()
    except MissingExtraError as error:
        return Availability(
            ok=False, reason=f"the package {error.package!r} is not installed", remedy=INSTALL
        )
    except Exception as error:  # a broken installation must not keep other backends from being considered
        return Availability(ok=False, reason=str(error), remedy="" if INSTALL in str(error) else INSTALL)
    return Availability(ok=True, reason="FFCV's library, in threads of this process")
