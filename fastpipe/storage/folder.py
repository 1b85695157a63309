"""An image folder as a torch Dataset: the interface of torchvision's ImageFolder over the flat index."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
from torchvision.datasets.folder import default_loader

from fastpipe.broken import is_broken_file
from fastpipe.errors import SampleError
from fastpipe.storage.face import FolderFace
from fastpipe.storage.index import IMG_EXTENSIONS, FolderIndex, open_index

__all__ = ["FolderDataset"]


class FolderDataset(FolderFace):
    """Images of `root/CLASS/...` with their labels, like torchvision.datasets.ImageFolder.

    Order, classes, pixels (Pillow, converted to RGB) and attributes are the same. `samples`, `imgs` and
    `targets`
    are views of the index that make their items on request: 60 bytes a file in all instead of 450.

    Raises the errors of `fastpipe.storage.open_index`; reading an item raises SampleError with its path.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        index: FolderIndex | None = None,
    ) -> None:
        self.index = open_index(root) if index is None else index
        super().__init__(self.index.classes, transform, target_transform)
        self.root = self.index.root
        self.extensions = IMG_EXTENSIONS
        self.loader: Callable[[str], Any] = default_loader

    def __len__(self) -> int:
        return len(self.index)

    def _name(self, index: int) -> str:
        return self.index.path(index)

    def _label(self, index: int) -> int:
        return self.index.label(index)

    def _labels(self) -> npt.NDArray[Any]:
        return self.index.labels

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        try:
            image = self.loader(path)
        except Exception as err:
            if not is_broken_file(err):  # `loader` may belong to the script
                raise
            raise SampleError(
                f"{path!r} cannot be read as an image: {type(err).__name__}: {err}. "
                "Remove or replace the file.",
                path=path,
                sample_id=index % len(self),
            ) from err
        return self._transformed(image, target)
