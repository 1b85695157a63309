"""The leaf of a `.beton` file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastpipe.errors import SampleError
from fastpipe.storage.beton.dataset import BetonDataset
from fastpipe.storage.beton.file import Beton, is_beton
from fastpipe.storage.beton.format import RAW
from fastpipe.storage.leaf import Encoded, Leaf, Located
from fastpipe.types import IntArray, Size

__all__ = ["BetonLeaf"]


class BetonLeaf(Leaf):
    """All samples in one file, by its tables."""

    __slots__ = ()

    dataset: BetonDataset
    kind: ClassVar[str] = "beton"
    words: ClassVar[tuple[str, str]] = ("a .beton file", ".beton files")
    mapped: ClassVar[bool] = True
    numerics: ClassVar[Literal["exact", "fast"]] = "fast"

    @classmethod
    def open(cls, place: Any, transform: Callable[[Any], Any] | None) -> BetonDataset | None:
        """The file at a path that ends in .beton, or one that is open already."""
        if isinstance(place, Beton):
            return BetonDataset(place.path, transform, beton=place)
        return BetonDataset(place, transform) if is_beton(place) else None

    def key(self, i: int) -> str:
        """BETON#i."""
        return f"{self.dataset.beton.path}#{i}"

    def name(self, i: int) -> str:
        """As it was in the folder, or BETON#i in a file of stock FFCV."""
        return self.dataset.beton.names[i]

    def label(self, i: int) -> int:
        """As the file has it."""
        return self.dataset._label(i)

    def size(self, i: int) -> Size:
        """By the file's table."""
        beton = self.dataset.beton
        return int(beton.heights[i]), int(beton.widths[i])

    def sizes(self, ids: IntArray) -> IntArray:
        """By the file's table."""
        beton = self.dataset.beton
        return np.stack([beton.heights[ids], beton.widths[ids]], axis=1).astype(np.int64)

    def raw(self, i: int) -> bool:
        """By the file's table."""
        return bool(self.dataset.beton.modes[i] == RAW)

    def encoded(self, i: int) -> Encoded:
        """Not copied: a view of the file."""
        return self.dataset.beton.encoded(i)

    def encoded_many(self, ids: IntArray) -> list[Encoded | SampleError]:
        """Not copied: 0.3 us each, where `encoded` takes 4."""
        beton = self.dataset.beton
        starts = beton.pointers[ids].astype(np.int64)
        stops = starts + beton.lengths[ids].astype(np.int64)
        file = beton.data().data
        return [file[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]

    def rgb(self, i: int, data: Encoded | None = None) -> Image.Image:
        """As `Leaf.rgb`; the bytes are always at hand."""
        return self.dataset.rgb(i)

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """As the file has them."""
        return self.dataset.beton.labels[ids]

    def locate(self, ids: IntArray) -> Located:
        """Pieces of the one file, all inside it."""
        beton = self.dataset.beton
        offset, length = (column[ids].astype(np.int64) for column in (beton.pointers, beton.lengths))
        return Located((os.fsencode(beton.path),), np.zeros(len(ids), dtype=np.int64), offset, length)

    def pages(self) -> IntArray:
        """FFCV's pages."""
        beton = self.dataset.beton
        return np.asarray(beton.pointers // np.uint64(beton.page_size), dtype=np.int64)
