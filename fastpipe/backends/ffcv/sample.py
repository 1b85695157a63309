"""One image of a `.beton` on its way into a batch, and the memory a thread reuses from image to image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastpipe.backends.ffcv.native import Scratch
from fastpipe.backends.ffcv.turbojpeg import TurboDecoder, open_turbo
from fastpipe.batch.packing import Pixels
from fastpipe.errors import SampleError
from fastpipe.storage import Leaf
from fastpipe.types import Size, Spec

# The target of a sample's pixels: uint8 [*size, 3] of the batch, once their size is known.
Room = Callable[[Size], Pixels]


class ThreadState:
    """The decoded frame, the whole frame resized, and the decoder of one thread."""

    def __init__(self) -> None:
        self.frame = Scratch()
        self.resized = Scratch()
        self._decoder: TurboDecoder | None = None

    @property
    def decoder(self) -> TurboDecoder:
        """libjpeg-turbo's decoder, made when it is first needed: numerics="fast" never needs it."""
        if self._decoder is None:
            self._decoder = TurboDecoder(open_turbo())
        return self._decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Image `index` of a leaf, and how to crop and resize it. draws: the uniform numbers of its crop."""

    leaf: Leaf
    index: int
    spec: Spec | None
    draws: Sequence[float]

    @property
    def size(self) -> Size:
        """(height, width) according to the storage's table."""
        size = self.leaf.size(self.index)
        if size is None:
            raise self.rejected("its size is not in the table")
        return size

    @property
    def raw(self) -> bool:
        """Whether its pixels are stored as they are."""
        return self.leaf.raw(self.index)

    @property
    def data(self) -> Pixels:
        """Its bytes, uint8 [n], not copied."""
        return np.frombuffer(self.leaf.encoded(self.index), np.uint8)

    def rejected(self, reason: str) -> SampleError:
        """The error of a JPEG that FFCV's library does not decode."""
        name = self.leaf.name(self.index)
        return SampleError(f"FFCV's decoder rejects {name!r}: {reason}", path=name, sample_id=self.index)
