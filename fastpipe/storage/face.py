"""The interface of torchvision's ImageFolder for images that are not a list of paths."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

T = TypeVar("T")


class FolderFace(Dataset[tuple[Any, Any]]):
    """The interface of a data set of images with class names: `classes`, `samples`, `imgs`, `targets`, repr.

    The views make their items on request, so a million images need no list of a million tuples.
    """

    root: str

    def __init__(
        self,
        classes: Sequence[str],
        transform: Callable[[Any], Any] | None,
        target_transform: Callable[[Any], Any] | None,
    ) -> None:
        self.classes = list(classes)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.transform = transform
        self.target_transform = target_transform

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _name(self, index: int) -> str:
        """The name of the image in `samples`."""

    @abstractmethod
    def _label(self, index: int) -> Any:
        """The label of one image, a class number in most kinds; IndexError beyond the last."""

    @abstractmethod
    def _labels(self) -> npt.NDArray[Any]:
        """All labels, [N]: of any integer type, but for an ImageList of other labels."""

    @property
    def samples(self) -> Sequence[tuple[str, int]]:
        """(name, label) of every image; the name is the path if each image is a file."""
        return _Samples(self)

    @property
    def imgs(self) -> Sequence[tuple[str, int]]:
        """The same as `samples`, under ImageFolder's other name."""
        return _Samples(self)

    @property
    def targets(self) -> Sequence[int]:
        """The label of every image; `numpy.asarray` copies all of them, whole numbers as int64."""
        return _Targets(self)

    def _transformed(self, image: Any, target: Any) -> tuple[Any, Any]:
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __repr__(self) -> str:
        lines = [
            f"Dataset {type(self).__name__}",
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
    """A sequence over a data set that makes its items on request; slices are lists."""

    def __init__(self, face: FolderFace) -> None:
        self._face = face

    def _item(self, i: int) -> T:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._face)

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


class _Samples(_View[tuple[str, Any]]):
    def _item(self, i: int) -> tuple[str, Any]:
        return self._face._name(i), self._face._label(i)


class _Targets(_View[Any]):
    def _item(self, i: int) -> Any:
        return self._face._label(i)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        labels = self._face._labels()
        own = np.dtype(np.int64) if labels.dtype.kind in "iu" else labels.dtype
        return labels.astype(own if dtype is None else dtype)
