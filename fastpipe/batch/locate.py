"""From the id that a sampler gives to the data set and the file or `.beton` entry behind it."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from fastpipe.batch.ids import position_of
from fastpipe.decode import decode_rgb, read
from fastpipe.storage import BetonDataset
from fastpipe.types import IntArray, Request

__all__ = ["label_at", "labels_of", "leaves", "locate", "read_rgb", "sample_key", "storage_kind"]


def locate(dataset: Any, index: int) -> tuple[Any, int]:
    """The data set that holds the image and the index there, through Subset and ConcatDataset.

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
            return dataset, index + len(dataset) if -len(dataset) <= index < 0 else index


def leaves(dataset: Any) -> Iterator[Any]:
    """Every data set under Subset and ConcatDataset."""
    if isinstance(dataset, Subset):
        yield from leaves(dataset.dataset)
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from leaves(part)
    else:
        yield dataset


def storage_kind(dataset: Any) -> Literal["folder", "beton", "mixed"]:
    """Where the images of a lifted data set rest; "mixed" where a ConcatDataset joins both."""
    kinds = {isinstance(part, BetonDataset) for part in leaves(dataset)}
    return "mixed" if len(kinds) > 1 else "beton" if True in kinds else "folder"


def read_rgb(folder: Any, index: int) -> Image.Image:
    """Image `index` of what `locate` found, decoded to RGB by Pillow. Raises SampleError."""
    if isinstance(folder, BetonDataset):
        return folder.rgb(index)
    path = folder.samples[index][0]
    return decode_rgb(read(path), path)


def sample_key(leaf: Any, index: int) -> str:
    """What names a sample for good: the path of its file, or "BETON#index"."""
    beton = getattr(leaf, "beton", None)
    return str(leaf.samples[index][0]) if beton is None else f"{beton.path}#{index}"


def label_at(request: Request, place: int, leaf: Any, label: Any) -> Any:
    """The label of one place: what the script's `target_transform` made, or now makes, of `label`."""
    if request.labels is not None:
        return request.labels[place]
    return label if leaf.target_transform is None else leaf.target_transform(label)


def labels_of(dataset: Any) -> IntArray:
    """The label of every sample, int64 [len(dataset)]; 0.1 s for a million samples in a list."""
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([labels_of(part) for part in dataset.datasets])
    if isinstance(dataset.samples, list):  # torchvision's __getitem__ reads these, not `targets`
        return np.fromiter((label for _, label in dataset.samples), dtype=np.int64, count=len(dataset))
    return np.asarray(dataset.targets, dtype=np.int64)
