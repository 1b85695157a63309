"""An image folder as a torch Dataset: the face of torchvision's ImageFolder over the flat index."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets.folder import default_loader

from fastpipe.errors import SampleError
from fastpipe.storage.index import IMG_EXTENSIONS, FolderIndex, open_index

__all__ = ["FolderDataset"]

T = TypeVar("T")


class FolderDataset(Dataset[tuple[Any, Any]]):
    """Images of `root/CLASS/...` with their labels, as torchvision.datasets.ImageFolder gives them.

    Same order, classes, pixels (Pillow, converted to RGB) and attributes; `samples`, `imgs` and `targets` are
    views on the index that make their items when asked, 60 bytes a file in all instead of 450.

    Raises what `fastpipe.storage.open_index` raises; reading an item raises SampleError with its path.
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
        self.root = self.index.root
        self.classes = list(self.index.classes)
        self.class_to_idx = self.index.class_to_idx
        self.extensions = IMG_EXTENSIONS
        self.loader: Callable[[str], Any] = default_loader
        self.transform = transform
        self.target_transform = target_transform

    @property
    def samples(self) -> Sequence[tuple[str, int]]:
        """(path, label) of every image."""
        return _Samples(self.index)

    @property
    def imgs(self) -> Sequence[tuple[str, int]]:
        """The same as `samples`, under ImageFolder's other name."""
        return _Samples(self.index)

    @property
    def targets(self) -> Sequence[int]:
        """The label of every image; `numpy.asarray` of it copies the index's int32 array as int64."""
        return _Targets(self.index)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        try:
            image = self.loader(path)
        # Pillow's plug-ins raise SyntaxError and ValueError too for files they cannot read.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
            raise SampleError(
                f"{path!r} cannot be read as an image: {type(err).__name__}: {err}. "
                "Remove or replace the file.",
                path=path,
                sample_id=index % len(self),
            ) from err
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __repr__(self) -> str:
        lines = [
            "Dataset FolderDataset",
            f"    Number of datapoints: {len(self)}",
            f"    Number of classes: {len(self.classes)}",
            f"    Root location: {self.root}",
        ]
        if self.transform is not None:
            lines.append(f"    Transform: {self.transform!r}".replace("\n", "\n" + " " * 15))
        if self.target_transform is not None:
            lines.append(f"    Target transform: {self.target_transform!r}".replace("\n", "\n" + " " * 22))
        return "\n".join(lines)


class _View(Sequence[T], Generic[T]):
    """A sequence over the index whose items are made when asked for; slices are lists."""

    def __init__(self, index: FolderIndex) -> None:
        self._index = index

    def _item(self, i: int) -> T:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> list[T]: ...
    def __getitem__(self, i: int | slice) -> T | list[T]:
        if isinstance(i, slice):
            return [self._item(k) for k in range(*i.indices(len(self)))]
        return self._item(i + len(self) if i < 0 else i)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # As a list: equal by content, so not hashable.

    def __repr__(self) -> str:
        return f"{self[:3]!r}"[:-1] + (f", ... {len(self)} in all]" if len(self) > 3 else "]")


class _Samples(_View[tuple[str, int]]):
    def _item(self, i: int) -> tuple[str, int]:
        return self._index.path(i), self._index.label(i)


class _Targets(_View[int]):
    def _item(self, i: int) -> int:
        return self._index.label(i)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._index.labels.astype(np.int64 if dtype is None else dtype)
