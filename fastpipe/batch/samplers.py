"""Orders based on `DistributedSampler`: without repeats, with repeated augmentation, page by page."""

from __future__ import annotations

import math
from collections.abc import Sized
from typing import Any, cast

import numpy as np
import torch.distributed
from torch.utils.data import ConcatDataset, Subset

from fastpipe.batch.order import DistributedSampler
from fastpipe.errors import ArgumentError
from fastpipe.rng import permutation
from fastpipe.storage import leaf_of
from fastpipe.types import IntArray

__all__ = ["DistributedEvalSampler", "PageLocalSampler", "RepeatAugSampler"]

_PAGE_ORDER = 1 << 62  # added to the epoch in the page order's key, so it differs from the samples' key


class DistributedEvalSampler(DistributedSampler):
    """Every sample once over all ranks: no padding, so no sample counts twice in a metric.

    Ranks may differ by one sample, hence by one batch: sum counts over ranks after the epoch, and do not
    call a collective for each batch. Not shuffled unless asked.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle, seed)
        self.total_size = len(dataset)
        self.num_samples = len(self._global_positions())


class RepeatAugSampler(DistributedSampler):
    """Repeated augmentation as timm has it: each sample `num_repeats` times in a row, dealt to the ranks.

    So one sample's copies are on different ranks in the same step, each with its own draws. An epoch
    is cut to about `len(dataset)` samples over all ranks: a multiple of `selected_round` for larger data,
    divided by `selected_ratio` (0: the number of ranks). Arguments and lengths are those of
    timm.data.RepeatAugSampler; its ids come from torch's permutation, ours from (seed, epoch).
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        num_repeats: float = 3,
        selected_round: int = 256,
        selected_ratio: float = 0,
        seed: int = 0,
    ) -> None:
        if not num_repeats >= 1:
            raise ArgumentError(f"num_repeats must be at least 1. Found: {num_repeats!r}")
        super().__init__(dataset, num_replicas, rank, shuffle, seed)
        num = len(dataset)
        self.num_repeats = num_repeats
        self.num_samples = math.ceil(num * num_repeats / self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas
        ratio = selected_ratio or self.num_replicas
        rounded = bool(selected_round) and num >= selected_round
        selected = int(num // selected_round * selected_round / ratio) if rounded else math.ceil(num / ratio)
        self.num_selected_samples = min(selected, self.num_samples)

    def __len__(self) -> int:
        return self.num_selected_samples

    def _global_positions(self) -> IntArray:
        return super()._global_positions()[: self.num_selected_samples]

    def _places(self, positions: IntArray) -> IntArray:
        return self._copies()[positions % max(len(self._copies()), 1)]

    def _copies(self) -> IntArray:
        """For each place of the repeated list, whose copy it is: 0 0 0 1 1 1 2 ..."""
        num = len(cast("Sized", self.dataset))
        places = np.arange(math.ceil(self.num_repeats * num))
        return np.asarray(places // self.num_repeats, dtype=np.int64)

    def repeats(self) -> IntArray:
        """How many copies of the same sample precede each of this rank's in the global order."""
        copies, positions = self._copies(), self._global_positions()
        if not len(copies):
            return positions
        place, lap = positions % len(copies), positions // len(copies)
        first, counts = np.searchsorted(copies, copies), np.bincount(copies)
        told: IntArray = place - first[place] + lap * counts[copies[place]]
        return told


class PageLocalSampler(DistributedSampler):
    """A quasi-random order for data beyond memory: the samples of `window` pages at a time, shuffled.

    Pages are visited in random order, each once; a page is a page of the `.beton` file, or `block`
    neighbours in another data set's order (files of a folder were mostly written in that order). A disk then
    reads pages, not samples. Without a process group there is one rank. Call `set_epoch` before each
    epoch.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        *,
        window: int = 16,
        block: int = 64,
    ) -> None:
        _check_count("window", window)
        _check_count("block", block)
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            num_replicas = 1 if num_replicas is None else num_replicas
            rank = 0 if rank is None else rank
        super().__init__(dataset, num_replicas, rank, True, seed, drop_last)
        self.window = window
        self.pages = pages_of(dataset, block)

    def _order(self) -> IntArray:
        num_pages = int(self.pages.max(initial=-1)) + 1
        visit = np.empty(num_pages, dtype=np.int64)
        visit[permutation(self.seed, self.epoch + _PAGE_ORDER, num_pages)] = np.arange(num_pages)
        shuffled = permutation(self.seed, self.epoch, len(self.pages))
        groups = visit[self.pages[shuffled]] // self.window
        return shuffled[np.argsort(groups, kind="stable")]


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} must be an int >= 1. Found: {value!r}")


def pages_of(dataset: Any, block: int) -> IntArray:
    """The page of every sample, int64 [len(dataset)], numbered from 0 without gaps."""
    numbers: IntArray = np.unique(_pages(dataset, block), return_inverse=True)[1].reshape(-1)
    return numbers.astype(np.int64)


def _pages(dataset: Any, block: int) -> IntArray:
    if isinstance(dataset, Subset):
        return _pages(dataset.dataset, block)[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        parts, start = [], 0
        for part in dataset.datasets:
            parts.append(_pages(part, block) + start)
            start += int(parts[-1].max(initial=0)) + 1
        return np.concatenate(parts)
    leaf = leaf_of(dataset)
    pages = None if leaf is None else leaf.pages()
    if pages is not None:
        return pages
    return np.arange(len(dataset), dtype=np.int64) // block
