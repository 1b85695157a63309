"""Counter-based random numbers: every draw is a pure function of its key.

Generator: Philox 4x32-10 (Salmon et al.: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
A draw for a sample is keyed by (seed, epoch, sample id, repeat, stream), a draw for a batch by (seed, epoch,
batch index, rank, stream), so neither workers nor ranks nor backends can change it.

Layout: a 64-bit subkey is hashed from (seed, epoch, stream, domain); the counter is (id low, id high,
repeat or rank, block). Each block of 4 words gives two float64 with 53 random bits.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fastpipe.types import IntArray

__all__ = ["Stream", "batch_key", "integer_seeds", "permutation", "sample_key", "uniforms"]

Words = npt.NDArray[np.uint64]  # 32-bit values held in 64 bits, so that products do not overflow
Uniforms = npt.NDArray[np.float64]

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_FACTORS = (0xD2511F53, 0xCD9E8D57)
_MULTIPLIERS = (np.uint64(_FACTORS[0]), np.uint64(_FACTORS[1]))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_DOMAIN_SAMPLE, _DOMAIN_BATCH, _DOMAIN_ORDER = 1, 2, 3


class Stream(IntEnum):
    """What a draw is for. The values are part of the promise of equal draws: never renumber."""

    CROP = 1
    FLIP = 2
    POLICY = 3
    ERASING = 4
    HOST = 5
    REPLACE = 6
    COLOUT = 7
    MIX = 8
    PARTNER = 9


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """Philox 4x32-10 of four uint64 arrays [n] holding 32-bit words; returns four such arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0 = _MULTIPLIERS[0] * c0
        p1 = _MULTIPLIERS[1] * c2
        c0 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c1 = p1 & _MASK
        c2 = (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c3 = p0 & _MASK
        k0 = (k0 + _WEYL[0]) & 0xFFFFFFFF
        k1 = (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


@lru_cache(maxsize=256)
def _subkey(seed: int, epoch: int, stream: int, domain: int) -> tuple[int, int]:
    """Hash the slow-moving part of a key to 64 bits: `philox` of one counter, in plain ints.

    For one counter numpy takes 60 us, and every stream needs a key at the first batch of an epoch.
    """
    c0, c1, c2, c3 = epoch & 0xFFFFFFFF, (epoch >> 32) & 0xFFFFFFFF, int(stream), domain
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(_ROUNDS):
        p0, p1 = _FACTORS[0] * c0, _FACTORS[1] * c2
        c0, c1 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF
        c2, c3 = (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0 = (k0 + _WEYL[0]) & 0xFFFFFFFF
        k1 = (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1


def _blocks(ids: IntArray, third: IntArray, num_blocks: int, key: tuple[int, int]) -> Words:
    """Random words, uint64 [n, num_blocks * 4], for counters (id, third, block index)."""
    wide = ids.astype(np.uint64)[:, None]
    shape = (len(ids), num_blocks)
    counter = (
        np.broadcast_to(wide & _MASK, shape),
        np.broadcast_to(wide >> _SHIFT, shape),
        np.broadcast_to(third.astype(np.uint64)[:, None] & _MASK, shape),
        np.broadcast_to(np.arange(num_blocks, dtype=np.uint64)[None, :], shape),
    )
    return np.stack(philox(counter, key), axis=-1).reshape(len(ids), num_blocks * 4)


def _to_unit(words: Words) -> Uniforms:
    """Pairs of 32-bit words to float64 in [0, 1) with 53 random bits."""
    high = words[:, 0::2] >> np.uint64(5)
    low = words[:, 1::2] >> np.uint64(6)
    return (high.astype(np.float64) * 67108864.0 + low.astype(np.float64)) / 9007199254740992.0


def sample_key(seed: int, epoch: int, stream: Stream) -> tuple[int, int]:
    """The 64-bit key of draws for samples, as two words; the counters are (id, repeat)."""
    return _subkey(seed, epoch, stream, _DOMAIN_SAMPLE)


def batch_key(seed: int, epoch: int, stream: Stream) -> tuple[int, int]:
    """The 64-bit key of draws for batches, as two words; the counters are (batch, rank)."""
    return _subkey(seed, epoch, stream, _DOMAIN_BATCH)


def uniforms(seed: int, epoch: int, ids: IntArray, repeats: IntArray, stream: Stream, num: int) -> Uniforms:
    """float64 [len(ids), num] in [0, 1), keyed per sample."""
    key = sample_key(seed, epoch, stream)
    return _to_unit(_blocks(ids, repeats, (num + 1) // 2, key))[:, :num]


def batch_uniforms(seed: int, epoch: int, batch: int, rank: int, stream: Stream, num: int) -> Uniforms:
    """float64 [num] in [0, 1), keyed per batch and rank."""
    key = batch_key(seed, epoch, stream)
    words = _blocks(np.array([batch]), np.array([rank]), (num + 1) // 2, key)
    return _to_unit(words)[0, :num]


def integer_seeds(seed: int, epoch: int, ids: IntArray, repeats: IntArray, stream: Stream) -> Words:
    """uint64 [len(ids)], one seed per sample for a foreign generator (python, numpy, torch)."""
    words = _blocks(ids, repeats, 1, _subkey(seed, epoch, stream, _DOMAIN_SAMPLE))
    return (words[:, 0] << _SHIFT) | words[:, 1]


def permutation(seed: int, epoch: int, num: int) -> IntArray:
    """A random permutation of range(num), int64 [num]: the order of random 64-bit keys, ties by id."""
    if num == 0:
        return np.empty(0, dtype=np.int64)
    key = _subkey(seed, epoch, 0, _DOMAIN_ORDER)
    pairs = np.arange((num + 1) // 2, dtype=np.int64)
    words = _blocks(pairs, np.zeros_like(pairs), 1, key).reshape(-1, 2)
    ranks = ((words[:, 0] << _SHIFT) | words[:, 1])[:num]
    return np.argsort(ranks, kind="stable").astype(np.int64)
