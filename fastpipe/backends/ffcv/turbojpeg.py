"""libjpeg-turbo's accurate decoder, from the library that FFCV's own is linked to.

FFCV's `imdecode` asks for the fast IDCT and offers nothing else. The TurboJPEG functions behind it (API 2.0,
turbojpeg.h) give Pillow's pixels, because Pillow also uses libjpeg-turbo with the accurate IDCT and fancy
upsampling.
"""

from __future__ import annotations

import ctypes
import io
import weakref
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastpipe.backends.ffcv.native import open_native
from fastpipe.errors import BackendError

Pixels = npt.NDArray[np.uint8]

_RGB: Final = 0  # TJPF_RGB
_ACCURATE: Final = 4096  # TJFLAG_ACCURATEDCT; without TJFLAG_FASTUPSAMPLE, upsampling is fancy


class Turbo:
    """The functions. Raises AttributeError if the library lacks them."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.create = library.tjInitDecompress
        self.create.restype = ctypes.c_void_p
        self.destroy = library.tjDestroy
        self.destroy.argtypes = [ctypes.c_void_p]
        self.message = library.tjGetErrorStr2
        self.message.argtypes = [ctypes.c_void_p]
        self.message.restype = ctypes.c_char_p
        self.decompress = library.tjDecompress2
        # handle; source, its bytes; target, width, bytes of a row, height; pixel format, flags
        self.decompress.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_ulong,
            ctypes.c_void_p,
            *[ctypes.c_int] * 5,
        ]


class TurboDecoder:
    """A decoder for one thread at a time; releases the GIL and keeps no address."""

    def __init__(self, turbo: Turbo) -> None:
        self._turbo = turbo
        self._handle = turbo.create()
        if not self._handle:
            raise MemoryError("libjpeg-turbo could not make a decoder")
        # Not at exit, when a daemon thread may still be decoding.
        weakref.finalize(self, turbo.destroy, self._handle).atexit = False

    def decode(self, source: Pixels, target: Pixels) -> str | None:
        """Decode a JPEG of the target's size into it, uint8 [H,W,3] RGB; returns the error, or None.

        A warning (damage that can be decoded around, stray bytes) counts as wrong. Nothing is written past
        the target for any file: a larger frame is scaled down to it or refused.
        """
        height, width, _ = target.shape
        code = self._turbo.decompress(
            self._handle,
            source.ctypes.data,
            len(source),
            target.ctypes.data,
            width,
            width * 3,
            height,
            _RGB,
            _ACCURATE,
        )
        if code == 0:
            return None
        return str(self._turbo.message(self._handle).decode(errors="replace"))


@lru_cache(maxsize=1)
def open_turbo() -> Turbo:
    """The functions behind FFCV's library. BackendError or MissingExtraError if they are not available."""
    native = open_native()
    try:
        return Turbo(native.library)
    except AttributeError as error:
        raise BackendError(
            f"FFCV's library is not linked to a TurboJPEG that can be called: {error}"
        ) from error


@lru_cache(maxsize=1)
def exact_fault() -> str | None:
    """Why numerics="exact" cannot be kept on this machine, or None.

    Pillow and FFCV each bring their own libjpeg-turbo, and others can be built in (IJG's libjpeg upsamples
    differently), so both decode small JPEGs of each common kind, once per process.
    """
    try:
        decoder = TurboDecoder(open_turbo())
    except BackendError as error:
        return str(error)
    noise = np.random.default_rng(0).integers(0, 256, (37, 45, 3), np.uint8)
    for mode, subsampling in (("L", 0), ("RGB", 0), ("RGB", 1), ("RGB", 2)):
        stream = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(stream, "JPEG", quality=85, subsampling=subsampling)
        found = np.empty_like(noise)
        fault = decoder.decode(np.frombuffer(stream.getvalue(), np.uint8), found)
        if fault is not None or not np.array_equal(found, np.asarray(Image.open(stream).convert("RGB"))):
            return "FFCV's libjpeg-turbo and Pillow's JPEG library decode to different pixels on this machine"
    return None
