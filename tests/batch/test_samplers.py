"""The orders on top of DistributedSampler."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from fastpipe import ArgumentError, DistributedEvalSampler, PageLocalSampler, RepeatAugSampler
from fastpipe.batch.order import known_repeats
from fastpipe.batch.samplers import pages_of
from fastpipe.rng import permutation
from fastpipe.storage import Leaf, register


@pytest.mark.parametrize("num", [1, 3, 10, 101])
@pytest.mark.parametrize("world", [1, 2, 4, 7])
def test_evaluation_counts_every_sample_exactly_once(num, world):
    samplers = [DistributedEvalSampler(range(num), world, rank) for rank in range(world)]
    ids = [list(sampler) for sampler in samplers]
    assert sorted(i for rank in ids for i in rank) == list(range(num))
    assert [len(sampler) for sampler in samplers] == [len(rank) for rank in ids]
    assert max(map(len, ids)) - min(map(len, ids)) <= 1
    assert all(
        (sampler.repeats() == 0).all() and len(sampler.repeats()) == len(sampler) for sampler in samplers
    )


@pytest.mark.parametrize("num", [5, 100, 256, 700])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("repeats", [1, 3, 2.5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_repeated_augmentation_is_timms(num, world, repeats, shuffle, monkeypatch):
    """timm's sampler on our permutation must yield our ids on every rank."""
    timm = pytest.importorskip("timm.data.distributed_sampler", reason="timm is not installed")
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.from_numpy(permutation(0, 4, n)))
    for rank in range(world):
        ours = RepeatAugSampler(range(num), world, rank, shuffle, repeats)
        theirs = timm.RepeatAugSampler(range(num), world, rank, shuffle, repeats)
        ours.set_epoch(4)
        theirs.set_epoch(4)
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs)


@pytest.mark.parametrize(("num", "world", "repeats"), [(10, 4, 3), (10, 3, 2.5), (7, 2, 1)])
def test_copies_of_a_sample_have_repeats_of_their_own(num, world, repeats):
    """Counted one by one in the global order, wrapped padding included."""
    samplers = [
        RepeatAugSampler(range(num), world, rank, num_repeats=repeats, selected_ratio=1)
        for rank in range(world)
    ]
    ids = np.array([list(sampler) for sampler in samplers]).T.reshape(-1)
    told = np.array([sampler.repeats() for sampler in samplers]).T.reshape(-1)
    seen: dict[int, int] = {}
    for sample_id, repeat in zip(ids.tolist(), told.tolist(), strict=True):
        assert repeat == seen.get(sample_id, 0)
        seen[sample_id] = repeat + 1
    assert (known_repeats(samplers[0], None) == samplers[0].repeats()).all()


class _Paged(TensorDataset):
    """Samples on pages, with gaps in the pages' numbers."""


class _PagedLeaf(Leaf):
    kind = "paged"
    words = ("a paged file", "paged files")

    def key(self, i):
        return f"paged#{i}"

    def label(self, i):
        return i

    def encoded(self, i):
        return b""

    def pages(self):
        return self.dataset.pages


register(_Paged, _PagedLeaf)


def _paged(num, per_page, order=None):
    pages = np.arange(num) // per_page
    pages = pages if order is None else pages[order]
    data = _Paged(torch.arange(num))
    data.pages = pages.astype(np.int64) * 7 + 3
    return data


@pytest.mark.parametrize("world", [1, 2])
def test_page_local_order_visits_all_and_holds_few_pages(world):
    num, per_page, window = 1003, 10, 4
    data = _paged(num, per_page, np.random.default_rng(0).permutation(num))
    pages = pages_of(data, 1)
    ranks = [PageLocalSampler(data, world, rank, seed=3, window=window) for rank in range(world)]
    order = [i for step in zip(*ranks, strict=True) for i in step][:num]
    assert sorted(order) == list(range(num))
    visits = [set(pages[order[k : k + window * per_page]].tolist()) for k in range(0, num, window * per_page)]
    # One short page shifts the groups' borders: a stretch of a group's length touches two groups at most.
    assert max(map(len, visits)) <= 2 * window
    for page in range(int(pages.max()) + 1):
        places = np.flatnonzero(pages[order] == page)
        assert places.max() - places.min() < window * per_page, "a page was left and read again"


def test_page_local_order_is_random_within_and_between_groups():
    """Ranks against ids: groups move as a whole, samples within a group are spread over it."""
    num, per_page, window = 4096, 16, 8
    data = _paged(num, per_page)
    sampler = PageLocalSampler(data, seed=1, window=window)
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        orders.append(np.array(list(sampler)))
    assert abs(np.corrcoef(np.arange(num), orders[0])[0, 1]) < 0.2  # 32 groups: s.e. 0.18 at most
    assert not np.array_equal(orders[0], orders[1])
    groups = orders[0].reshape(-1, per_page * window)
    neighbours = np.mean(groups[:, 1:] // per_page == groups[:, :-1] // per_page)
    assert neighbours == pytest.approx((per_page - 1) / (per_page * window - 1), abs=0.02)
    corrs = [np.corrcoef(np.arange(len(group)), group)[0, 1] for group in groups]
    assert abs(np.mean(corrs)) < 4 / np.sqrt(num)


def test_pages_of_folders_subsets_and_concatenations():
    plain = TensorDataset(torch.arange(10))
    assert pages_of(plain, 4).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert pages_of(Subset(plain, [9, 0, 8]), 4).tolist() == [1, 0, 1]
    assert pages_of(ConcatDataset([_paged(4, 2), plain]), 5).tolist() == [0, 0, 1, 1, *[2] * 5, *[3] * 5]
    assert list(PageLocalSampler(TensorDataset(torch.empty(0)))) == []
    with pytest.raises(ArgumentError, match="window must be"):
        PageLocalSampler(plain, window=0)
    with pytest.raises(ArgumentError, match="num_repeats must be"):
        RepeatAugSampler(plain, 1, 0, num_repeats=0)
