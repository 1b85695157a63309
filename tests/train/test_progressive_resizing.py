"""Progressive sizes against Composer's formula, for every step."""

from __future__ import annotations

import pickle

import pytest

from fastpipe.train.algorithms.progressive_resizing import ProgressiveSize, progressive_size


def _composer(
    elapsed: float, full: int, initial: float, delay: float, finetune: float, increment: int
) -> int:
    """The class of Composer 0.7.1 in arithmetic: a fraction, a scale, a pinned width, no-op at 1."""
    fraction = 0.0 if elapsed < delay else min((elapsed - delay) / (1 - finetune - delay), 1)
    width = round(full * (initial + (1 - initial) * fraction) / increment) * increment
    return full if width / full >= 1 else width


@pytest.mark.parametrize(("initial", "delay"), [(0.5, 0.4), (0.6, 0.2)])
def test_every_step_of_mild_and_hot(initial: float, delay: float) -> None:
    steps, epochs = 25, 36
    size_of = ProgressiveSize(
        steps_per_epoch=steps,
        total_steps=steps * epochs,
        full_size=176,
        initial_scale=initial,
        delay_fraction=delay,
    )
    for epoch in range(epochs):
        for batch in range(steps):
            elapsed = (epoch * steps + batch) / (steps * epochs)
            assert size_of(epoch, batch) == _composer(elapsed, 176, initial, delay, 0.2, 4)


def test_mild_takes_the_23_published_sizes_in_order() -> None:
    size_of = ProgressiveSize(steps_per_epoch=1000, total_steps=10_000, full_size=176)
    sizes = [size_of(step // 1000, step % 1000) for step in range(10_000)]
    assert sorted(set(sizes)) == list(range(88, 177, 4))
    assert sizes == sorted(sizes)
    assert set(sizes[:4000]) == {88} and set(sizes[8000:]) == {176}
    # The facts give 0.533 of the pixels of a constant 176.
    assert sum(size * size for size in sizes) / (176**2 * 10_000) == pytest.approx(0.533, abs=0.002)


def test_no_ramp_jumps_at_the_delay() -> None:
    settings = {"full_size": 64, "initial_scale": 0.5, "finetune_fraction": 0.5, "size_increment": 4}
    sizes = [progressive_size(s, 10, delay_fraction=0.5, **settings) for s in range(10)]
    assert sizes == [32] * 5 + [64] * 5


def test_never_larger_than_the_full_size() -> None:
    size = progressive_size(
        9, 10, full_size=64, initial_scale=0.5, delay_fraction=0.0, finetune_fraction=0.0, size_increment=24
    )
    assert size == 64


def test_it_travels_to_worker_processes() -> None:
    size_of = ProgressiveSize(steps_per_epoch=3, total_steps=9, full_size=64)
    assert pickle.loads(pickle.dumps(size_of)) == size_of
