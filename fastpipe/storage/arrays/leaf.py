"""The leaf of images in memory: their pixels are there, so no file is read and nothing is decoded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torchvision.transforms as v1
from PIL import Image
from torch.utils.data import TensorDataset

from fastpipe.storage.arrays.dataset import ArrayDataset, from_tensors
from fastpipe.storage.arrays.layout import Layout, Levels, rgb_of
from fastpipe.storage.leaf import Encoded, Leaf
from fastpipe.storage.lists.labels import are_numbers, label_at, labels_at
from fastpipe.types import IntArray, Size

__all__ = ["ArrayLeaf"]


class MemoryLeaf(Leaf):
    """All samples in one uint8 array."""

    __slots__ = ()

    kind: ClassVar[str] = "array"
    words: ClassVar[tuple[str, str]] = ("images in memory", "images in memory")

    @property
    @abstractmethod
    def levels(self) -> Levels:
        """The array, as the data set has it."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """What its axes are."""

    def key(self, i: int) -> str:
        """CLASS#i."""
        return f"{type(self.dataset).__name__}#{i}"

    def size(self, i: int) -> Size:
        """That of all."""
        height, width = self._rgb(0, 1).shape[1:3]
        return int(height), int(width)

    def raw(self, i: int) -> bool:
        """Always."""
        return True

    def encoded(self, i: int) -> Encoded:
        """The pixels, H x W x 3 bytes."""
        return self._rgb(i, i + 1).tobytes()

    def rgb(self, i: int, data: Encoded | None = None) -> Image.Image:
        """As `Leaf.rgb`; nothing is decoded."""
        return Image.fromarray(np.ascontiguousarray(self._rgb(i, i + 1)[0]))

    def pixels(self) -> Levels:
        """The array itself, or a view of it."""
        return rgb_of(self.levels, self.layout)

    def _rgb(self, first: int, end: int) -> Levels:
        found = rgb_of(self.levels[first:end], self.layout)
        if not len(found):
            raise IndexError(f"image {first} of {len(self.levels)}")
        return found


class ArrayLeaf(MemoryLeaf):
    """The images of an ArrayDataset."""

    __slots__ = ()

    dataset: ArrayDataset

    @classmethod
    def adopt(cls, dataset: Any, transform: Callable[[Any], Any]) -> ArrayDataset | None:
        """The images and labels of a TensorDataset."""
        return from_tensors(dataset, transform) if type(dataset) is TensorDataset else None

    @property
    def transform(self) -> Any:
        """The script's, of RGB images: behind a conversion where it takes tensors."""
        if not self.dataset.as_tensor:
            return self.dataset.transform
        return v1.Compose([v1.PILToTensor(), *([self.dataset.transform] if self.dataset.transform else [])])

    @property
    def levels(self) -> Levels:
        """The array that the script gave."""
        return self.dataset.data

    @property
    def layout(self) -> Layout:
        """Found from the shape."""
        return self.dataset.layout

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.dataset.label_values is not None

    @property
    def numbered(self) -> bool:
        """Whether labels are whole numbers."""
        return are_numbers(self.dataset.label_values)

    def label(self, i: int) -> Any:
        """As given; None without labels."""
        return label_at(self.dataset.label_values, i)

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """As given."""
        return labels_at(self.dataset.label_values, ids)
