"""The leaf of an image folder: torchvision's ImageFolder and DatasetFolder, and our FolderDataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastpipe.storage.files_leaf import FilesLeaf, whole_files
from fastpipe.storage.folder import FolderDataset
from fastpipe.storage.index import FolderIndex
from fastpipe.storage.leaf import Located, array_of
from fastpipe.types import IntArray

__all__ = ["FolderLeaf"]


class FolderLeaf(FilesLeaf):
    """A file for each sample, by the data set's `samples`: torchvision's `__getitem__` reads those."""

    __slots__ = ()

    kind: ClassVar[str] = "folder"
    words: ClassVar[tuple[str, str]] = ("an image folder", "folders")

    @classmethod
    def open(cls, place: Any, transform: Callable[[Any], Any] | None) -> FolderDataset:
        """The folder at a path, or of an index that is open already."""
        if isinstance(place, FolderIndex):
            return FolderDataset(place.root, transform, index=place)
        return FolderDataset(place, transform)

    def path(self, i: int) -> str:
        """The path, as the data set has it."""
        path: str = self.dataset.samples[i][0]
        return path

    def label(self, i: int) -> Any:
        """The number of its class, or what the script put into `samples`."""
        if isinstance(self.dataset, FolderDataset):
            return self.dataset.index.label(i)  # `samples` would make the path as well: 3 us
        _, label = self.dataset.samples[i]
        return label

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """0.1 s for a million samples in a list."""
        if isinstance(self.dataset, FolderDataset):
            return self.dataset.index.labels[ids].astype(np.int64)
        samples = self.dataset.samples
        return array_of([samples[i][1] for i in ids.tolist()])

    def locate(self, ids: IntArray) -> Located:
        """As `FilesLeaf.locate`; an index gives all names at once."""
        if isinstance(self.dataset, FolderDataset):
            return whole_files(self.dataset.index.file_names(ids))
        return super().locate(ids)
