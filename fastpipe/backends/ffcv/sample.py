"""One image of a `.beton` on its way into a batch, and what a thread reuses from image to image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fastpipe.backends.ffcv.native import Scratch
from fastpipe.backends.ffcv.turbojpeg import TurboDecoder, open_turbo
from fastpipe.errors import SampleError
from fastpipe.storage.beton.file import Beton
from fastpipe.types import Size, Spec

__all__ = ["Pixels", "Room", "Sample", "ThreadState"]

Pixels = npt.NDArray[np.uint8]
# Where the pixels of a sample go: uint8 [*size, 3] of the batch, once their size is known.
Room = Callable[[Size], Pixels]

_RAW: Final = 1


class ThreadState:
    """The decoded frame, the whole frame resized, and the decoder of one thread."""

    def __init__(self) -> None:
        self.frame = Scratch()
        self.resized = Scratch()
        self._decoder: TurboDecoder | None = None

    @property
    def decoder(self) -> TurboDecoder:
        """libjpeg-turbo's, made when it is first needed: numerics="fast" never does."""
        if self._decoder is None:
            self._decoder = TurboDecoder(open_turbo())
        return self._decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Image `index` of a file, and what is to become of it. draws: the uniform numbers of its crop."""

    beton: Beton
    index: int
    spec: Spec | None
    draws: Sequence[float]

    @property
    def size(self) -> Size:
        """(height, width) by the file's table."""
        return int(self.beton.heights[self.index]), int(self.beton.widths[self.index])

    @property
    def raw(self) -> bool:
        """Whether its pixels are stored as they are."""
        return bool(self.beton.modes[self.index] == _RAW)

    @property
    def data(self) -> Pixels:
        """Its bytes, uint8 [n], not copied."""
        return np.frombuffer(self.beton.encoded(self.index), np.uint8)

    def rejected(self, reason: str) -> SampleError:
        """The error of a JPEG that FFCV's library does not decode."""
        name = self.beton.names[self.index]
        return SampleError(f"FFCV's decoder rejects {name!r}: {reason}", path=name, sample_id=self.index)
