"""The order of an epoch, from the same counter-based numbers at every worker count and world size."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, cast

import numpy as np
import torch.utils.data

from fastpipe.errors import ArgumentError
from fastpipe.rng import permutation
from fastpipe.types import IntArray

__all__ = ["DistributedSampler", "SeededSampler", "check_seed", "known_repeats", "length"]


def check_seed(seed: Any) -> int:
    """The seed, if it is an integer in [0, 2**63)."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise ArgumentError(f"seed must be an integer in [0, 2**63). Found: {seed!r}")
    return int(seed)


class SeededSampler(torch.utils.data.RandomSampler):
    """What `shuffle=True` with `seed=` uses: the permutation of (seed, epoch), `len(dataset)` ids.

    The loader sets the epoch; call `set_epoch` if you use the sampler alone.
    """

    def __init__(self, data_source: Sized, seed: int) -> None:
        super().__init__(cast("Any", data_source))
        self.seed = check_seed(seed)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch from the next `iter()` on."""
        self._epoch = int(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(permutation(self.seed, self._epoch, len(self.data_source)).tolist())


class DistributedSampler(torch.utils.data.DistributedSampler[Any]):
    """torch's DistributedSampler over the permutation of (seed, epoch): same padding, `drop_last`, stride.

    Batch k of all ranks together holds the same ids at every world size with the same global batch.
    Call `set_epoch` before each epoch, as with torch's.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(cast("Any", dataset), num_replicas, rank, shuffle, check_seed(seed), drop_last)

    def _global_positions(self) -> IntArray:
        return np.arange(self.rank, self.total_size, self.num_replicas, dtype=np.int64)

    def _order(self) -> IntArray:
        """The ids of the whole epoch, int64 [len(dataset)], before padding and dealing to the ranks."""
        num = len(cast("Sized", self.dataset))
        return permutation(self.seed, self.epoch, num) if self.shuffle else np.arange(num, dtype=np.int64)

    def _places(self, positions: IntArray) -> IntArray:
        """From positions in the padded global order to places in `_order()`."""
        return positions % len(cast("Sized", self.dataset))

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        if not len(order):
            return iter(())
        return iter(order[self._places(self._global_positions())].tolist())

    def repeats(self) -> IntArray:
        """How often each of this rank's ids occurred before in the global order (padding gives 1, 2, ...)."""
        num = len(cast("Sized", self.dataset))
        return self._global_positions() // max(num, 1)


def length(sized: Any, default: int) -> int:
    """len(sized), or the default if that fails.

    torch iterates without asking a sampler or a data set for its length, and `__len__` may raise anything:
    TypeError, NotImplementedError and ValueError are all in use.
    """
    try:
        return len(sized)
    except Exception:
        return default


def known_repeats(sampler: Any, batch_sampler: Any) -> IntArray | None:
    """How often each id of the order occurred before, if the sampler's type tells; else None.

    Counting them one by one would cost a dictionary of the whole data set.
    """
    if type(batch_sampler) is not torch.utils.data.BatchSampler and batch_sampler is not None:
        return None
    if isinstance(sampler, DistributedSampler):
        return sampler.repeats()
    once = type(sampler) in (torch.utils.data.SequentialSampler, SeededSampler)
    once = once or (type(sampler) is torch.utils.data.RandomSampler and not sampler.replacement)
    return (
        np.zeros(len(sampler), dtype=np.int64) if once and len(sampler) <= len(sampler.data_source) else None
    )
