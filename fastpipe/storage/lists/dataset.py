"""`ImageList`: image files named one by one, as a torch Dataset with the interface of an image folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from torchvision.datasets.folder import default_loader

from fastpipe.broken import is_broken_file
from fastpipe.errors import ArgumentError, EmptyDatasetError, SampleError
from fastpipe.storage.face import FolderFace
from fastpipe.storage.lists.labels import Classes, label_at, labelling

__all__ = ["ImageList"]


class ImageList(FolderFace):
    """The images at `paths`, in that order, each with its label.

    paths:   str or PathLike, relative ones to `root` (None: to the current folder). No file is opened.
    labels:  None: an item is `(image,)` and a batch `[images]`. Names: class numbers, by sorted name as in
             ImageFolder. Whole numbers stay as they are. Anything else, such as a vector, a number or a dict
             for each image, is collated as torch's default_collate does.
    classes: the names by class number, where labels are names or numbers; labels must be among them. Give the
             same ones for training and validation. False: names are kept as text.

    Pixels are Pillow's, converted to RGB. `samples`, `imgs` and `targets` are views, as in FolderDataset.
    Raises ArgumentError, and EmptyDatasetError without any path; reading an item raises SampleError.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        labels: Any = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        classes: Classes = None,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        base = "" if root is None else os.path.expanduser(os.fspath(root))
        self._paths = _PackedPaths([_joined(base, path, i) for i, path in enumerate(paths)])
        if not len(self._paths):
            raise EmptyDatasetError("paths must name at least one image. Found: none")
        if labels is None and target_transform is not None:
            raise ArgumentError("target_transform must be None where there are no labels")
        self.label_values, names = labelling(labels, classes, lambda i: f"label {i}")
        found = len(self._paths) if self.label_values is None else len(self.label_values)
        if found != len(self._paths):
            raise ArgumentError(
                f"labels must be one for each of the {len(self._paths)} paths. Found: {found} labels"
            )
        super().__init__(names, transform, target_transform)
        self.root = base or self._paths.common_folder()
        self.loader: Callable[[str], Any] = default_loader

    @property
    def labelled(self) -> bool:
        """Whether an item has a label."""
        return self.label_values is not None

    def __len__(self) -> int:
        return len(self._paths)

    def _name(self, index: int) -> str:
        return self._paths[index]

    def _label(self, index: int) -> Any:
        return label_at(self.label_values, index)

    def _labels(self) -> npt.NDArray[Any]:
        return np.full(len(self), None, dtype=object) if self.label_values is None else self.label_values

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        place = index + len(self) if index < 0 else index
        path = self._paths[place]
        try:
            image = self.loader(path)
        except Exception as err:
            if not is_broken_file(err):  # `loader` may belong to the script
                raise
            raise SampleError(
                f"{path!r} cannot be read as an image: {type(err).__name__}: {err}. "
                "Remove or replace the file.",
                path=path,
                sample_id=place,
            ) from err
        if self.labelled:
            return self._transformed(image, self._label(place))
        return (image if self.transform is None else self.transform(image),)


class _PackedPaths:
    """Paths as bytes in one array: a worker that reads them copies no memory, as it would with a list."""

    def __init__(self, paths: list[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._blob = np.frombuffer(b"".join(encoded), np.uint8)
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> str:
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of a list of {len(self)}")
        return os.fsdecode(self._blob[self._starts[i] : self._ends[i]].tobytes())

    def common_folder(self) -> str:
        """The innermost folder that holds all of them."""
        folders = {os.path.dirname(self[i]) for i in range(len(self))}
        return os.path.commonpath(sorted(map(os.path.abspath, folders)))


def _joined(base: str, path: Any, i: int) -> str:
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"paths must hold paths, each a str or PathLike. Found at {i}: {path!r}")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ArgumentError(f"paths must hold paths of files. Found at {i}: {text!r}")
    return os.path.join(base, text) if base else text
