"""What the leaves of all data sets with a file for each sample have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torchvision
from PIL import Image
from torchvision.datasets import folder as torchvision_folder

from fastpipe.storage.image import decode_rgb, read
from fastpipe.storage.leaf import Encoded, Leaf, Located
from fastpipe.types import IntArray

_OWN_LOADERS = ("default_loader", "pil_loader")


class FilesLeaf(Leaf):
    """A file for each sample, which torchvision's `__getitem__` would open with torchvision's own loader."""

    __slots__ = ()

    @abstractmethod
    def path(self, i: int) -> str | os.PathLike[str]:
        """The path of sample i as the data set has it. IndexError beyond the last one."""

    @property
    def loader(self) -> Any:
        """What the data set opens files with."""
        return getattr(self.dataset, "loader", torchvision_folder.default_loader)

    def key(self, i: int) -> str:
        """The path of the file."""
        return str(self.path(i))

    def name(self, i: int) -> str:
        """The path."""
        return os.fspath(self.path(i))

    def encoded(self, i: int) -> Encoded:
        """The file's bytes."""
        return read(os.fspath(self.path(i)))

    def rgb(self, i: int, data: Encoded | None = None) -> Image.Image:
        """As `Leaf.rgb`; the path is made once, which for an index takes microseconds."""
        path = os.fspath(self.path(i))
        return decode_rgb(read(path) if data is None else data, path)

    def locate(self, ids: IntArray) -> Located:
        """Whole files, whose lengths nobody has asked for yet."""
        return whole_files([os.fsencode(self.path(i)) for i in ids.tolist()])

    def refusal(self) -> str | None:
        """Also where something else than Pillow by torchvision's own functions decodes."""
        reason = super().refusal()
        name = type(self.dataset).__name__
        if reason is not None:
            return reason
        if not any(_is_torchvisions(self.loader, own) for own in _OWN_LOADERS):
            return f"the loader of {name} is the script's own"
        # default_loader asks for this one by name at every image.
        if not _is_torchvisions(torchvision_folder.pil_loader, "pil_loader"):
            return "torchvision.datasets.folder.pil_loader is the script's own"
        if torchvision.get_image_backend() != "PIL":
            return f"torchvision's image backend is {torchvision.get_image_backend()!r}, not 'PIL'"
        return None


def whole_files(names: Sequence[bytes]) -> Located:
    """Where samples lie that have a file each."""
    zeros = np.zeros(len(names), dtype=np.int64)
    return Located(tuple(names), np.arange(len(names), dtype=np.int64), zeros, zeros - 1)


def _is_torchvisions(loader: Any, name: str) -> bool:
    """Whether it is torchvision's function of that name; the script may have replaced it before we came."""
    code = getattr(loader, "__code__", None)
    if code is None or getattr(loader, "__wrapped__", None) is not None:
        return False
    file = torchvision_folder.__file__
    return bool(code.co_name == name and os.path.realpath(code.co_filename) == os.path.realpath(file))
