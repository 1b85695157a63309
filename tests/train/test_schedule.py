"""The learning rate of every step against the published formula, written out independently."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastpipe.train.algorithms.schedule import Schedule, learning_rate, set_lr


@pytest.mark.parametrize(("steps_per_epoch", "epochs", "warmup_epochs"), [(10, 36, 8), (7, 5, 0), (30, 4, 1)])
def test_every_step_follows_composers_formula(steps_per_epoch: int, epochs: int, warmup_epochs: int) -> None:
    peak, total, warmup = 2.048, steps_per_epoch * epochs, steps_per_epoch * warmup_epochs
    for step in range(total):
        if step < warmup:
            factor = step / warmup
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        found = learning_rate(step, name="cosine", peak=peak, warmup_steps=warmup, total_steps=total)
        assert found == pytest.approx(peak * factor, rel=1e-12, abs=1e-15), step


def test_warmup_starts_at_exactly_zero_and_reaches_the_peak() -> None:
    at = [learning_rate(s, name="cosine", peak=2.0, warmup_steps=8, total_steps=36) for s in range(37)]
    assert at[0] == 0.0
    assert at[8] == max(at) == 2.0
    assert at[22] == pytest.approx(1.0)
    assert at[36] == pytest.approx(0.0, abs=1e-15)


def test_minimum_is_where_the_cosine_ends() -> None:
    end = learning_rate(100, name="cosine", peak=1.0, warmup_steps=0, total_steps=100, minimum=0.25)
    assert end == pytest.approx(0.25)


def test_warmup_as_long_as_training_never_decays() -> None:
    rates = [learning_rate(s, name="cosine", peak=1.0, warmup_steps=10, total_steps=10) for s in range(10)]
    assert rates == [s / 10 for s in range(10)]


def test_set_lr_reaches_every_group() -> None:
    params = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [params[0]]}, {"params": [params[1]]}], lr=1.0)
    set_lr(optimizer, 0.3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.3]


def test_the_epoch_schedule_is_torchs_linear_warmup_then_cosine() -> None:
    """The PyTorch blog's: LinearLR(0.01, 5 epochs), then CosineAnnealingLR, each stepped once an epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=35)
    sequence = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[5])
    ours = Schedule(
        name="cosine",
        peak=0.5,
        epochs=40,
        steps_per_epoch=3,
        warmup_epochs=5,
        warmup_start=0.01,
        resolution="epoch",
    )
    for epoch in range(40):
        expected = optimizer.param_groups[0]["lr"]
        assert [ours(3 * epoch + batch) for batch in range(3)] == pytest.approx([expected] * 3), epoch
        optimizer.step()
        sequence.step()


def test_ffcvs_schedule_is_piecewise_linear_per_step() -> None:
    """np.interp over epochs [0, 2, 16] and rates [1e-4 lr, lr, 0], read at every iteration."""
    ours = Schedule(
        name="linear", peak=1.7, epochs=16, steps_per_epoch=10, warmup_epochs=2, warmup_start=1e-4
    )
    for step in range(160):
        expected = np.interp(step / 10, [0, 2, 16], [1e-4 * 1.7, 1.7, 0.0])
        assert ours(step) == pytest.approx(expected, rel=1e-12), step


def test_mlperfs_polynomial_is_the_square() -> None:
    ours = Schedule(name="polynomial", peak=10.5, epochs=34, steps_per_epoch=4, warmup_epochs=2)
    assert ours(8) == 10.5
    assert ours(72) == pytest.approx(10.5 * 0.25)
    assert ours(4) == pytest.approx(5.25)
