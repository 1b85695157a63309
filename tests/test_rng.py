"""The generator against its published vectors, and the keys against what they promise."""

import numpy as np
import pytest
from scipy import stats

from fastpipe import rng
from fastpipe.rng import Stream, batch_uniforms, integer_seeds, permutation, philox, uniforms


def _block(counter, key):
    words = tuple(np.array([word], dtype=np.uint64) for word in counter)
    return [int(word[0]) for word in philox(words, key)]


# Random123's kat_vectors, philox4x32 with 10 rounds.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_published_vectors(counter, key, expected):
    assert _block(counter, key) == expected


def _ids(num):
    return np.arange(num, dtype=np.int64), np.zeros(num, dtype=np.int64)


def test_uniforms_are_uniform_and_uncorrelated():
    ids, repeats = _ids(20000)
    draws = uniforms(7, 3, ids, repeats, Stream.CROP, 5)
    assert draws.shape == (20000, 5)
    assert draws.min() >= 0.0 and draws.max() < 1.0
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    correlation = np.corrcoef(draws.T) - np.eye(5)
    assert np.abs(correlation).max() < 5 / np.sqrt(20000)


def test_a_draw_depends_on_its_key_alone():
    ids, repeats = _ids(100)
    whole = uniforms(1, 2, ids, repeats, Stream.FLIP, 3)
    parts = np.concatenate(
        [uniforms(1, 2, ids[i : i + 7], repeats[i : i + 7], Stream.FLIP, 3) for i in range(0, 100, 7)]
    )
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_array_equal(whole[:, :1], uniforms(1, 2, ids, repeats, Stream.FLIP, 1))
    reversed_ids = uniforms(1, 2, ids[::-1], repeats, Stream.FLIP, 3)
    np.testing.assert_array_equal(whole[::-1], reversed_ids)


@pytest.mark.parametrize(
    "other",
    [
        dict(seed=2),
        dict(seed=2**40 + 1),
        dict(epoch=1),
        dict(stream=Stream.CROP),
        dict(repeats=np.ones(50, dtype=np.int64)),
        dict(ids=np.arange(50, dtype=np.int64) + 2**32),
    ],
    ids=lambda other: next(iter(other)),
)
def test_every_part_of_the_key_matters(other):
    ids, repeats = _ids(50)
    key = dict(seed=1, epoch=0, ids=ids, repeats=repeats, stream=Stream.FLIP)
    a = uniforms(**key, num=2)
    b = uniforms(**{**key, **other}, num=2)
    assert not np.isclose(a, b).any()


def test_batch_draws_depend_on_batch_and_rank():
    base = batch_uniforms(1, 0, 5, 0, Stream.FLIP, 4)
    assert base.shape == (4,)
    np.testing.assert_array_equal(base, batch_uniforms(1, 0, 5, 0, Stream.FLIP, 4))
    for other in (batch_uniforms(1, 0, 6, 0, Stream.FLIP, 4), batch_uniforms(1, 0, 5, 1, Stream.FLIP, 4)):
        assert not np.isclose(base, other).any()


@pytest.mark.parametrize("num", [0, 1, 2, 3, 1000, 1001])
def test_permutation_is_one(num):
    order = permutation(3, 1, num)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(num))


def test_permutation_changes_with_epoch_and_seed_and_is_unbiased():
    assert not np.array_equal(permutation(0, 0, 100), permutation(0, 1, 100))
    assert not np.array_equal(permutation(0, 0, 100), permutation(1, 0, 100))
    # Where element 0 of 8 lands over 4,000 epochs: uniform over the 8 places.
    places = [int(np.flatnonzero(permutation(0, epoch, 8) == 0)[0]) for epoch in range(4000)]
    assert stats.chisquare(np.bincount(places, minlength=8)).pvalue > 1e-3


def test_seeds_for_foreign_generators_are_64_bits_wide():
    ids, repeats = _ids(1000)
    seeds = integer_seeds(0, 0, ids, repeats, Stream.HOST)
    assert seeds.dtype == np.uint64
    assert len(np.unique(seeds)) == 1000
    assert seeds.max() > 2**63


def test_stream_numbers_are_frozen():
    """A renumbered stream would silently change every saved experiment."""
    assert {stream.name: stream.value for stream in rng.Stream} == {
        "CROP": 1,
        "FLIP": 2,
        "POLICY": 3,
        "ERASING": 4,
        "HOST": 5,
        "REPLACE": 6,
        "COLOUT": 7,
        "MIX": 8,
        "PARTNER": 9,
    }


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**63 + 12345, 2**64 - 1])
@pytest.mark.parametrize("epoch", [0, 7, 2**33 + 5])
def test_a_key_is_philox_of_one_counter(seed, epoch):
    """The keys are worked out in plain ints, since numpy takes 60 us for one counter."""
    for stream in rng.Stream:
        counter = tuple(
            np.array([word], dtype=np.uint64) for word in (epoch & 0xFFFFFFFF, epoch >> 32, int(stream), 1)
        )
        block = rng.philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
        assert rng.sample_key(seed, epoch, stream) == (int(block[0][0]), int(block[1][0]))
