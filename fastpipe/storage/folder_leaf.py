"""The leaf of an image folder: torchvision's ImageFolder and DatasetFolder, and our FolderDataset."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torchvision
from PIL import Image
from torchvision.datasets import folder as torchvision_folder

from fastpipe.storage.folder import FolderDataset
from fastpipe.storage.image import decode_rgb, read
from fastpipe.storage.index import FolderIndex
from fastpipe.storage.leaf import Encoded, Leaf, Located, array_of
from fastpipe.types import IntArray

__all__ = ["FolderLeaf"]

_OWN_LOADERS = ("default_loader", "pil_loader")


class FolderLeaf(Leaf):
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

    def key(self, i: int) -> str:
        """The path of the file."""
        return str(self.dataset.samples[i][0])

    def name(self, i: int) -> str:
        """The path, as the data set has it."""
        path: str = self.dataset.samples[i][0]
        return path

    def label(self, i: int) -> Any:
        """The number of its class, or what the script put into `samples`."""
        if isinstance(self.dataset, FolderDataset):
            return self.dataset.index.label(i)  # `samples` would make the path as well: 3 us
        _, label = self.dataset.samples[i]
        return label

    def encoded(self, i: int) -> Encoded:
        """The file's bytes."""
        return read(self.dataset.samples[i][0])

    def rgb(self, i: int, data: Encoded | None = None) -> Image.Image:
        """As `Leaf.rgb`; the path is made once, which for an index takes microseconds."""
        path = self.dataset.samples[i][0]
        return decode_rgb(read(path) if data is None else data, path)

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """0.1 s for a million samples in a list."""
        if isinstance(self.dataset, FolderDataset):
            return self.dataset.index.labels[ids].astype(np.int64)
        samples = self.dataset.samples
        return array_of([samples[i][1] for i in ids.tolist()])

    def locate(self, ids: IntArray) -> Located:
        """Whole files, whose lengths nobody has asked for yet."""
        if isinstance(self.dataset, FolderDataset):
            files = tuple(self.dataset.index.file_names(ids))
        else:
            samples = self.dataset.samples
            files = tuple([os.fsencode(samples[i][0]) for i in ids.tolist()])
        zeros = np.zeros(len(ids), dtype=np.int64)
        return Located(files, np.arange(len(ids), dtype=np.int64), zeros, zeros - 1)

    def refusal(self) -> str | None:
        """Also where something else than Pillow by torchvision's own functions decodes."""
        reason = super().refusal()
        name = type(self.dataset).__name__
        if reason is not None:
            return reason
        if not any(_is_torchvisions(self.dataset.loader, own) for own in _OWN_LOADERS):
            return f"the loader of {name} is the script's own"
        # default_loader asks for this one by name at every image.
        if not _is_torchvisions(torchvision_folder.pil_loader, "pil_loader"):
            return "torchvision.datasets.folder.pil_loader is the script's own"
        if torchvision.get_image_backend() != "PIL":
            return f"torchvision's image backend is {torchvision.get_image_backend()!r}, not 'PIL'"
        return None


def _is_torchvisions(loader: Any, name: str) -> bool:
    """Whether it is torchvision's function of that name; the script may have replaced it before we came."""
    code = getattr(loader, "__code__", None)
    if code is None or getattr(loader, "__wrapped__", None) is not None:
        return False
    file = torchvision_folder.__file__
    return bool(code.co_name == name and os.path.realpath(code.co_filename) == os.path.realpath(file))
