"""`Leaf`: a place where samples lie, asked in one way: a folder, a `.beton`, or a kind added later.

A kind is a torch data set and a Leaf for it, joined by `register`. All other rooms ask the leaf.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastpipe.errors import ArgumentError, SampleError
from fastpipe.storage.image import decode_rgb
from fastpipe.types import IntArray, Size

__all__ = [
    "Encoded",
    "Leaf",
    "Located",
    "adopted",
    "class_names",
    "leaf_of",
    "open_images",
    "register",
    "words_for",
]

Encoded = bytes | memoryview


class Located(NamedTuple):
    """Where samples lie in files, for readers that open them natively.

    files: paths, as the system has them. file: int64 [B], which of them. offset, length: int64 [B], bytes;
    length -1: to the end.
    """

    files: tuple[bytes, ...]
    file: IntArray
    offset: IntArray
    length: IntArray


class Leaf(ABC):
    """The samples of one data set, by index from 0. Cheap to make: one is made for each sample looked up.

    What the script may change on its data set (samples, transform) is read there each time.

    kind:      the word that backends claim and messages show.
    words:     what one is called, and what several are called.
    mapped:    `encoded` gives views of memory, which a native reader takes instead of opening a file.
    numerics:  what the loader promises where the script does not say.
    any_mode:  its images differ in mode, so that one sample says nothing about the next.
    """

    __slots__ = ("dataset",)

    kind: ClassVar[str]
    words: ClassVar[tuple[str, str]]
    mapped: ClassVar[bool] = False
    numerics: ClassVar[Literal["exact", "fast"]] = "exact"
    any_mode: ClassVar[bool] = False

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    @classmethod
    def open(cls, place: Any, transform: Callable[[Any], Any] | None) -> Any:
        """The data set at a path, or of what was opened already; None where it is of another kind."""
        return None

    @classmethod
    def adopt(cls, dataset: Any, transform: Callable[[Any], Any]) -> Any:
        """A data set of this kind over one without a place for a transform; None where it takes no such."""
        return None

    @abstractmethod
    def key(self, i: int) -> str:
        """What names sample i for good: the path of its file, or "FILE#i" for one of several in a file."""

    @abstractmethod
    def label(self, i: int) -> Any:
        """The label of sample i, before any `target_transform`. IndexError beyond the last one."""

    @abstractmethod
    def encoded(self, i: int) -> Encoded:
        """The bytes of sample i as they are stored. Raises SampleError."""

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def root(self) -> str | None:
        """The folder or file; None where the samples lie in none, so that no list of bad ones can be kept."""
        root = getattr(self.dataset, "root", None)
        return None if root is None else os.fspath(root)

    @property
    def classes(self) -> Sequence[str]:
        """The names of the labels; empty where there are none."""
        return class_names(self.dataset)

    @property
    def labelled(self) -> bool:
        """Whether samples have labels; without, a batch is `[images]`, as of a TensorDataset of images."""
        return True

    @property
    def numbered(self) -> bool:
        """Whether labels may be class numbers, of which a batch of mixed labels has one column each."""
        return True

    @property
    def transform(self) -> Any:
        """The script's, of images."""
        return self.dataset.transform

    @property
    def target_transform(self) -> Any:
        """The script's, of labels; None where the data set has none."""
        return getattr(self.dataset, "target_transform", None)

    def name(self, i: int) -> str:
        """What messages call sample i."""
        return self.key(i)

    def size(self, i: int) -> Size | None:
        """(height, width) where a table has it, so that nothing is read for it; else None."""
        return None

    def sizes(self, ids: IntArray) -> IntArray:
        """The sizes of several, int64 [B,2]; (0, 0) where no table has it."""
        sizes = [self.size(i) or (0, 0) for i in ids.tolist()]
        return np.array(sizes, dtype=np.int64).reshape(-1, 2)

    def raw(self, i: int) -> bool:
        """Whether `encoded` gives pixels as they are, uint8 [H,W,3] of `size`, and no image file."""
        return False

    def rgb(self, i: int, data: Encoded | None = None) -> Image.Image:
        """Sample i as Pillow decodes it to RGB; data: its bytes, if they are at hand. Raises SampleError."""
        return decode_rgb(self.encoded(i) if data is None else data, self.name(i))

    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """A view of all samples, uint8 [N,H,W,3], if they lie in memory and have one size; else None."""
        return None

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """The labels of several, [B]: int64, or objects where one is no integer."""
        return array_of([self.label(i) for i in ids.tolist()])

    def encoded_many(self, ids: IntArray) -> list[Encoded | SampleError]:
        """The bytes of several, by place; a kind may fetch them at once. An error stands in its own place."""
        found: list[Encoded | SampleError] = []
        for i in ids.tolist():
            try:
                found.append(self.encoded(i))
            except SampleError as error:
                found.append(error)
        return found

    def locate(self, ids: IntArray) -> Located | None:
        """Where the bytes of several lie; None where they lie in no file that a native reader could open."""
        return None

    def pages(self) -> IntArray | None:
        """The page of every sample, int64 [N], where the storage is read by pages."""
        return None

    def refusal(self) -> str | None:
        """Why only the data set's own code can give its samples; None where this leaf gives the same."""
        kind = type(self.dataset)
        if kind.__getitem__ not in _GETITEMS[type(self)] or hasattr(kind, "__getitems__"):
            return f"{kind.__name__} has a __getitem__ of its own"
        return None


_KINDS: dict[type, type[Leaf]] = {}
# What each leaf stands for, as it was when it was registered: a script may replace it on the class.
_GETITEMS: dict[type[Leaf], set[Any]] = {}


def register(dataset: Any, leaf: type[Leaf]) -> None:
    """Have `leaf` asked for data sets of this class. Its `__getitem__` is what the leaf stands for."""
    _KINDS[dataset] = leaf
    _GETITEMS.setdefault(leaf, set()).add(dataset.__getitem__)


def leaf_of(dataset: Any) -> Leaf | None:
    """The leaf of a data set; None where no kind has it."""
    for base in type(dataset).__mro__:
        kind = _KINDS.get(base)
        if kind is not None:
            return kind(dataset)
    return None


def open_images(place: Any, transform: Callable[[Any], Any] | None) -> Any:
    """The data set at a path; kinds registered later are asked first. Raises what the kind raises."""
    for kind in reversed(_GETITEMS):
        found = kind.open(place, transform)
        if found is not None:
            return found
    known = ", ".join(kind.words[0] for kind in _GETITEMS)
    raise ArgumentError(f"the images must be at a path to one of: {known}. Found: {place!r}")


def adopted(dataset: Any, transform: Callable[[Any], Any]) -> Any:
    """A data set with the transform over one that has no place for it, such as a TensorDataset; else None."""
    return next((found for kind in _GETITEMS if (found := kind.adopt(dataset, transform)) is not None), None)


def class_names(dataset: Any) -> Sequence[str]:
    """What the script's `classes` names; () where it is no collection, as a number or a method of a script.

    An array of names is one, and so is a dict of names by number, or of numbers by name. A property that
    raises has none: a script may fill it later.
    """
    try:
        found = getattr(dataset, "classes", None)
        if isinstance(found, list | tuple):
            return found
        if isinstance(found, Mapping) and all(isinstance(name, str) for name in found.values()):
            return list(found.values())
        return () if isinstance(found, str | bytes) or not isinstance(found, Collection) else list(found)
    except Exception:  # of any kind: the script's own code
        return ()


def words_for(kinds: set[str]) -> str:
    """What a data set of these kinds is called: one "an image folder", several "folders and .beton files"."""
    words = list(dict.fromkeys(kind.words for kind in _GETITEMS if kind.kind in kinds))
    return words[0][0] if len(words) == 1 else " and ".join(several for _, several in words)


def array_of(labels: Sequence[Any]) -> npt.NDArray[Any]:
    """Labels as an array [B]: int64 where all are plain integers, else objects, which keep their type."""
    if all(kind is int or kind is np.int64 for kind in set(map(type, labels))):
        return np.fromiter(labels, dtype=np.int64, count=len(labels))
    found = np.empty(len(labels), dtype=object)
    for place, label in enumerate(labels):  # numpy would take a list of lists for a matrix
        found[place] = label
    return found
