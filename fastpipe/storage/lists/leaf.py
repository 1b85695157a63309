"""The leaf of a list of image files."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import numpy.typing as npt

from fastpipe.storage.files_leaf import FilesLeaf
from fastpipe.storage.lists.dataset import ImageList
from fastpipe.storage.lists.from_csv import from_csv, is_table
from fastpipe.storage.lists.labels import are_numbers, labels_at
from fastpipe.types import IntArray

__all__ = ["ListLeaf"]


class ListLeaf(FilesLeaf):
    """A file for each sample, named by an ImageList."""

    __slots__ = ()

    dataset: ImageList
    kind: ClassVar[str] = "list"
    words: ClassVar[tuple[str, str]] = ("a list of images", "lists of images")

    @classmethod
    def open(cls, place: Any, transform: Callable[[Any], Any] | None) -> ImageList | None:
        """The images that a CSV, JSON lines or Parquet file names in its columns `path` and `label`."""
        is_file = isinstance(place, str | os.PathLike) and is_table(place)
        return from_csv(place, transform=transform) if is_file else None

    @property
    def labelled(self) -> bool:
        """Whether the list came with labels."""
        return self.dataset.labelled

    @property
    def numbered(self) -> bool:
        """Whether labels are whole numbers."""
        return are_numbers(self.dataset.label_values)

    def path(self, i: int) -> str:
        """As the list has it."""
        return self.dataset._name(i)

    def label(self, i: int) -> Any:
        """As the list has it; None without labels."""
        return self.dataset._label(i)

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """As the list has them."""
        return labels_at(self.dataset.label_values, ids)
