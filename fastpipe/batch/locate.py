"""From the id that a sampler gives to the image folder and the file behind it."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any

from torch.utils.data import ConcatDataset, Subset

__all__ = ["class_members", "leaves", "locate"]


def locate(dataset: Any, index: int) -> tuple[Any, int]:
    """The folder data set and the index within it, through any nesting of Subset and ConcatDataset."""
    while True:
        if isinstance(dataset, Subset):
            index = int(dataset.indices[index])
            dataset = dataset.dataset
        elif isinstance(dataset, ConcatDataset):
            if index < 0:
                index += len(dataset)
            part = bisect.bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
        else:
            return dataset, index


def leaves(dataset: Any) -> Iterator[Any]:
    """Every data set under Subset and ConcatDataset."""
    if isinstance(dataset, Subset):
        yield from leaves(dataset.dataset)
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from leaves(part)
    else:
        yield dataset


def class_members(dataset: Any, label: int) -> list[int]:
    """The ids of all samples with this label, in order."""
    members = []
    for index in range(len(dataset)):
        folder, place = locate(dataset, index)
        if folder.samples[place][1] == label:
            members.append(index)
    return members
