"""The compiled generator against the plain one, bit for bit."""

import numpy as np
import pytest

from fastpipe.device.draws.numbers import batch_numbers, sample_numbers
from fastpipe.rng import Stream, batch_uniforms, uniforms
from fastpipe.types import Request

IDS = np.array([0, 1, 2, 2**31, 2**32 + 5, 2**62, 77], dtype=np.int64)


@pytest.mark.parametrize("num", [1, 2, 3, 23])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (2**63 + 11, 5), (7, 2**33)])
def test_equal_to_rng(seed, epoch, num):
    repeats = np.arange(len(IDS), dtype=np.int64) % 3
    request = Request(seed=seed, epoch=epoch, batch=2**31 + 9, ids=IDS, repeats=repeats, rank=3)
    for stream in (Stream.FLIP, Stream.POLICY):
        ours = sample_numbers(request, stream, num)
        assert ours.tobytes() == uniforms(seed, epoch, IDS, repeats, stream, num).tobytes()
    ours = batch_numbers(request, Stream.COLOUT, num)
    assert ours.tobytes() == batch_uniforms(seed, epoch, request.batch, 3, Stream.COLOUT, num).tobytes()


def test_ids_of_another_memory_order():
    backwards = IDS[::-1]
    request = Request(seed=1, epoch=1, batch=0, ids=backwards, repeats=np.zeros_like(IDS))
    expected = uniforms(1, 1, backwards, request.repeats, Stream.CROP, 5)
    np.testing.assert_array_equal(sample_numbers(request, Stream.CROP, 5), expected)
