"""Samplers: torch's rules over the Philox permutation, at every world size."""

import numpy as np
import pytest
import torch.utils.data

from fastpipe import ArgumentError, DistributedSampler
from fastpipe.batch import SeededSampler
from fastpipe.batch.order import known_repeats
from fastpipe.rng import permutation


@pytest.mark.parametrize("num", [1, 2, 7, 16, 101])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("drop_last", [False, True])
def test_padding_drop_last_and_stride_are_torchs(num, world, drop_last):
    """With shuffle off both classes must yield the very same ids on every rank."""
    for rank in range(world):
        ours = DistributedSampler(range(num), world, rank, shuffle=False, drop_last=drop_last)
        theirs = torch.utils.data.DistributedSampler(
            range(num), world, rank, shuffle=False, drop_last=drop_last
        )
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs)


def test_global_batch_holds_the_same_ids_at_every_world_size():
    num, batch = 103, 12
    by_world = {}
    for world in (1, 2, 3, 4):
        ranks = []
        for rank in range(world):
            sampler = DistributedSampler(range(num), world, rank, seed=5)
            sampler.set_epoch(2)
            ranks.append(list(sampler))
        local = batch // world
        full = num // batch
        by_world[world] = [
            sorted(i for ids in ranks for i in ids[k * local : (k + 1) * local]) for k in range(full)
        ]
    assert by_world[1] == by_world[2] == by_world[3] == by_world[4]


def test_shuffled_order_is_the_permutation_of_seed_and_epoch():
    sampler = DistributedSampler(range(50), 1, 0, seed=9)
    sampler.set_epoch(4)
    assert list(sampler) == permutation(9, 4, 50).tolist()
    sampler.set_epoch(5)
    assert list(sampler) == permutation(9, 5, 50).tolist()


def test_repeats_count_padding_in_the_global_order():
    """10 ids on 4 ranks: 12 places, the last two are ids seen before, on ranks 2 and 3."""
    repeats = [DistributedSampler(range(10), 4, rank).repeats().tolist() for rank in range(4)]
    assert repeats == [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]]
    tiny = DistributedSampler(range(1), 4, 3)
    assert tiny.repeats().tolist() == [3]


def test_seeded_sampler_is_a_random_sampler_of_the_epoch():
    sampler = SeededSampler(range(20), 3)
    assert isinstance(sampler, torch.utils.data.RandomSampler)
    assert list(sampler) == permutation(3, 0, 20).tolist()
    sampler.set_epoch(1)
    assert list(sampler) == permutation(3, 1, 20).tolist()
    assert len(sampler) == 20


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "7", True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ArgumentError, match="seed must be an integer"):
        SeededSampler(range(3), seed)


def test_repeats_are_known_only_where_the_sampler_tells():
    data = range(6)
    plain = torch.utils.data.RandomSampler(data)
    batches = torch.utils.data.BatchSampler(plain, 2, False)
    np.testing.assert_array_equal(known_repeats(plain, batches), np.zeros(6))
    assert known_repeats(torch.utils.data.RandomSampler(data, replacement=True), None) is None
    assert known_repeats(torch.utils.data.RandomSampler(data, num_samples=9), None) is None
    assert known_repeats(torch.utils.data.WeightedRandomSampler([1.0] * 6, 6), None) is None
    assert known_repeats(plain, [[0], [0]]) is None
