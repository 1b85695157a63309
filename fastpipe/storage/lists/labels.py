"""The labels of a list of images: class numbers, numbers, vectors, or objects of any kind.

As an array by sample: int64 [N], float [N] or [N, ...], or objects [N].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.errors import ArgumentError
from fastpipe.storage.leaf import array_of
from fastpipe.storage.lists.listing import Where, some
from fastpipe.types import IntArray

Classes = Sequence[str] | Literal[False] | None
Labelling = tuple[npt.NDArray[Any] | None, tuple[str, ...]]


def labelling(labels: Any, classes: Classes, where: Where) -> Labelling:
    """The labels as an array, and the names of the classes by number.

    Text becomes class numbers: the place of its name in `classes`, by default the sorted names, as in
    ImageFolder; classes=False keeps text. Integers stay as they are, and must be in 0..len(classes) - 1 if
    names are given; vectors must then have a column for each. Raises ArgumentError that names the labels at
    fault by `where`.
    """
    names = () if classes is None or classes is False else _checked_names(classes)
    if labels is None:
        if classes is not None:
            raise ArgumentError(f"classes must be None where there are no labels. Found: {classes!r}")
        return None, ()
    values = _as_array(labels)
    texts = _texts(values, where)
    if texts and classes is False:
        return array_of(texts), ()
    if texts:
        return numbered(texts, names, where)
    if names and values.shape[1:] == (len(names),):
        return values, names  # one column a class
    if names and not are_numbers(values):
        raise ArgumentError(
            f"classes must be None for labels that are neither names, nor whole numbers, nor vectors with a "
            f"column for each class. Found: {len(names)} classes, and labels such as {values[0]!r}"
        )
    if names:
        wrong = np.flatnonzero((values < 0) | (values >= len(names)))
        if len(wrong):
            found = some([f"{where(i)}: {values[i]}" for i in wrong.tolist()])
            raise ArgumentError(
                f"labels must be in 0..{len(names) - 1}, the numbers of the {len(names)} classes. {found}"
            )
    return values, names


def numbered(texts: Sequence[str], names: Sequence[str], where: Where) -> tuple[IntArray, tuple[str, ...]]:
    """The number of each name, int64 [N], and the names; without any given, those that occur, sorted."""
    names = tuple(names) or tuple(sorted(set(texts)))
    number_of = {name: number for number, name in enumerate(names)}
    unknown = [f"{where(i)}: {text!r}" for i, text in enumerate(texts) if text not in number_of]
    if unknown:
        raise ArgumentError(
            f"labels must be among the {len(names)} classes ({some([repr(name) for name in names], 5)}), or "
            f"equal numbers would mean different classes. Found: {some(unknown)}. Correct the labels, or "
            f"name all classes with classes="
        )
    return np.fromiter((number_of[text] for text in texts), dtype=np.int64, count=len(texts)), names


def _texts(values: npt.NDArray[Any], where: Where) -> list[str]:
    """The labels as text; empty if none is. ArgumentError if some are: a missing name is no class."""
    if values.dtype != object:
        return []
    other = [i for i, value in enumerate(values) if not isinstance(value, str)]
    if len(other) == len(values):
        return []
    if other:
        found = some([f"{where(i)}: {values[i]!r}" for i in other])
        raise ArgumentError(f"labels must all be text where one is. Found: {found}")
    return [str(value) for value in values]  # numpy's own text becomes Python's


def are_numbers(values: npt.NDArray[Any] | None) -> bool:
    """Whether the labels are whole numbers, one a sample."""
    return values is not None and values.dtype == np.int64 and values.ndim == 1


def label_at(values: npt.NDArray[Any] | None, i: int) -> Any:
    """The label of sample i as a data set gives it: int, float, text, array or object; None without labels.

    A float32 stays a numpy scalar, so that torch's default_collate gives float32.
    """
    if values is None:
        return None
    value = values[i]
    if are_numbers(values):
        return int(value)
    return value.copy() if isinstance(value, np.ndarray) and values.dtype != object else value


def labels_at(values: npt.NDArray[Any] | None, ids: IntArray) -> npt.NDArray[Any]:
    """The labels of several, [B]: int64, or objects."""
    if values is not None and are_numbers(values):
        return values[ids]
    return array_of([label_at(values, i) for i in ids.tolist()])


def _checked_names(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not classes:
        raise ArgumentError(f"classes must be a sequence of names, None or False. Found: {classes!r}")
    names = tuple(classes)
    if not all(type(name) is str for name in names) or len(set(names)) < len(names):
        raise ArgumentError(f"classes must be different names, each a str. Found: {names[:5]!r}")
    return names


def _as_array(labels: Any) -> npt.NDArray[Any]:
    """Numbers in arrays keep their type, but for whole numbers, one a sample, which become int64."""
    if isinstance(labels, torch.Tensor):
        labels = _numpy_of(labels)
    if not isinstance(labels, Iterable) or isinstance(labels, str) or getattr(labels, "ndim", 1) == 0:
        raise ArgumentError(f"labels must be one for each image. Found: {labels!r}")
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.ndim == 1:
        return _int64(labels)
    if isinstance(labels, np.ndarray) and (labels.dtype.kind == "f" or labels.ndim > 1):
        return labels
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    return array_of([_plain(one) for one in values])


def _plain(label: Any) -> Any:
    """A whole number of numpy or torch as Python's; everything else as it is."""
    if isinstance(label, np.integer | np.ndarray | torch.Tensor) and label.ndim == 0:
        value = label.item()
        return value if type(value) is int else label
    return label


def _numpy_of(labels: torch.Tensor) -> npt.NDArray[Any]:
    try:
        return np.asarray(labels.detach().cpu().numpy())
    except TypeError as error:  # bfloat16, float8: numpy has no such type
        raise ArgumentError(
            f"labels must be of a type that numpy has. Found: {labels.dtype}. Pass labels.float()"
        ) from error


def _int64(labels: npt.NDArray[Any]) -> IntArray:
    if labels.dtype.kind == "u" and len(labels) and int(labels.max()) > np.iinfo(np.int64).max:
        raise ArgumentError(f"labels must fit into int64. Found: {labels.max()}")
    return labels.astype(np.int64)
