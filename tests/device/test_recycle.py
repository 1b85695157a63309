"""Recycled memory: used again once nobody holds it, and never before."""

import os
import tracemalloc

import pytest
import torch

from fastpipe.device.recycle import Recycler

SHAPE = (2, 3, 300, 300)


def _empty(recycler, dtype=torch.float32, memory_format=torch.contiguous_format, shape=SHAPE):
    return recycler.empty(shape, dtype, memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8], ids=str)
def test_the_asked_shape_type_and_layout(dtype, memory_format):
    tensor = _empty(Recycler(), dtype, memory_format, (16, 3, 300, 300))
    assert tensor.dtype == dtype and tuple(tensor.shape) == (16, 3, 300, 300)
    assert tensor.is_contiguous(memory_format=memory_format)
    assert tensor.data_ptr() % 64 == 0


def test_memory_comes_back_when_the_last_view_is_gone():
    recycler = Recycler()
    first = _empty(recycler)
    place, view = first.data_ptr(), first[1, 0]
    del first
    second = _empty(recycler)
    assert second.data_ptr() != place, "a view still holds it"
    del view
    assert _empty(recycler).data_ptr() == place


def test_what_autograd_keeps_is_not_used_again():
    recycler = Recycler()
    images = _empty(recycler).fill_(2.0)
    weight = torch.ones(1, requires_grad=True)
    loss = (images * weight).sum()
    del images
    _empty(recycler).fill_(5.0)
    loss.backward()
    assert weight.grad.item() == pytest.approx(2.0 * 2 * 3 * 300 * 300)


def test_batches_outlive_the_recycler():
    recycler = Recycler()
    held = _empty(recycler).fill_(3.0)
    del recycler
    assert bool((held == 3.0).all())


def test_keeps_two_pieces_of_one_size():
    recycler, piece = Recycler(), 4 * 2 * 3 * 300 * 300
    tracemalloc.start()  # numpy tells it of every array
    try:
        batches = [_empty(recycler) for _ in range(5)]
        assert len({batch.data_ptr() for batch in batches}) == 5
        assert tracemalloc.get_traced_memory()[0] // piece == 5
        del batches
        assert tracemalloc.get_traced_memory()[0] // piece == 2
        again = [_empty(recycler) for _ in range(2)]
        assert tracemalloc.get_traced_memory()[0] // piece == 2, "both were used again"
        del again
        held = _empty(recycler, shape=(2, 3, 310, 310))
        assert tracemalloc.get_traced_memory()[0] // piece == 1, "a size that is not asked for is let go"
        del held
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the operating system has no fork")
def test_a_forked_child_does_not_write_into_the_parents_batch():
    recycler = Recycler()
    batch = _empty(recycler).fill_(1.0)
    child = os.fork()
    if child == 0:
        batch.numpy()[...] = 9.0  # torch's own threads do not survive a fork
        os._exit(0)
    os.waitpid(child, 0)
    assert bool((batch == 1.0).all())
