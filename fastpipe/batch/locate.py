"""From the id that a sampler gives to the leaf that has the sample, through Subset and ConcatDataset."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import ConcatDataset, Subset

from fastpipe.batch.ids import position_of
from fastpipe.storage import Leaf, leaf_of
from fastpipe.types import IntArray, Request

__all__ = ["Group", "leaves", "locate", "locate_many", "parts", "storage_kind", "usual_numerics"]


def locate(dataset: Any, index: int) -> tuple[Leaf, int]:
    """The leaf that holds the sample and the index there, through Subset and ConcatDataset.

    A negative index counts from the end, as in a list.
    """
    while True:
        if isinstance(dataset, Subset):
            index = position_of(dataset.indices[index])
            dataset = dataset.dataset
        elif isinstance(dataset, ConcatDataset):
            if index < 0:
                index += len(dataset)
            part = bisect.bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
        else:
            return _known(dataset), index + len(dataset) if -len(dataset) <= index < 0 else index


class Group(NamedTuple):
    """Samples of one leaf: `indices` there, and `places` in the batch; int64 both."""

    leaf: Leaf
    indices: IntArray
    places: IntArray


def locate_many(dataset: Any, ids: IntArray) -> list[Group]:
    """What `locate` gives for each id, by leaf: 20 us for a batch of one folder."""
    return list(_groups(dataset, ids, np.arange(len(ids), dtype=np.int64)))


def _groups(dataset: Any, ids: IntArray, places: IntArray) -> Iterator[Group]:
    if isinstance(dataset, Subset):
        yield from _groups(dataset.dataset, _through(dataset.indices, ids), places)
    elif isinstance(dataset, ConcatDataset):
        ids = np.where(ids < 0, ids + len(dataset), ids)
        starts = [0, *dataset.cumulative_sizes]
        part_of = np.searchsorted(dataset.cumulative_sizes, ids, side="right")
        for part in np.unique(part_of).tolist():
            mine = part_of == part
            yield from _groups(dataset.datasets[part], ids[mine] - starts[part], places[mine])
    else:
        num = len(dataset)
        yield Group(_known(dataset), np.where((ids < 0) & (ids >= -num), ids + num, ids), places)


def _through(indices: Any, ids: IntArray) -> IntArray:
    """The indices of a Subset, which may be of any kind of sequence, at `ids`."""
    if isinstance(indices, np.ndarray) and indices.ndim == 1 and indices.dtype.kind == "i":
        return indices[ids].astype(np.int64)
    return np.array([position_of(indices[i]) for i in ids.tolist()], dtype=np.int64)


def _known(dataset: Any) -> Leaf:
    leaf = leaf_of(dataset)
    if leaf is None:
        raise TypeError(f"no kind of storage is registered for {type(dataset).__name__}")
    return leaf


def parts(dataset: Any) -> Iterator[Any]:
    """Every data set under Subset and ConcatDataset, of any kind."""
    if isinstance(dataset, Subset):
        yield from parts(dataset.dataset)
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from parts(part)
    else:
        yield dataset


def leaves(dataset: Any) -> Iterator[Leaf]:
    """The leaf of each part of a lifted data set."""
    return map(_known, parts(dataset))


def storage_kind(dataset: Any) -> str:
    """The kind of storage of a lifted data set; "mixed" if a ConcatDataset joins several kinds."""
    kinds = {leaf.kind for leaf in leaves(dataset)}
    return "mixed" if len(kinds) > 1 else kinds.pop()


def usual_numerics(dataset: Any) -> Literal["exact", "fast"]:
    """The default numerics of a loader: "fast" if every part is of a "fast" kind."""
    usual = {"exact" if leaf is None else leaf.numerics for leaf in map(leaf_of, parts(dataset))}
    return "fast" if usual == {"fast"} else "exact"


def label_at(request: Request, place: int, leaf: Leaf, label: Any) -> Any:
    """The label of one place: the result of the script's `target_transform`, computed before or now."""
    if request.labels is not None:
        return request.labels[place]
    return label if leaf.target_transform is None else leaf.target_transform(label)


def labels_of(dataset: Any) -> npt.NDArray[Any]:
    """The label of every sample, [len(dataset)]: int64, or objects; 0.1 s for a million samples in a list."""
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([labels_of(part) for part in dataset.datasets])
    ids: IntArray = np.arange(len(dataset), dtype=np.int64)
    return _known(dataset).labels(ids)
