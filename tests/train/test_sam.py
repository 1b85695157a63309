"""SAM against the published formula, its restored weights, and what an overflow does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastpipe.errors import ArgumentError
from fastpipe.train.algorithms.sam import SAM, perturbation


def test_perturbation_is_rho_times_the_unit_gradient() -> None:
    grads = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert perturbation(grads, rho=0.5).item() == pytest.approx(5.0)
    assert grads[0].tolist() == pytest.approx([0.3, 0.0])
    assert grads[1].item() == pytest.approx(0.4)


def test_a_loss_scale_cancels() -> None:
    plain = [torch.randn(7, generator=torch.Generator().manual_seed(0))]
    scaled = [g * 65536.0 for g in plain]
    for grads in (plain, scaled):
        perturbation(grads, rho=0.5)
    torch.testing.assert_close(plain, scaled)


def test_gradient_is_taken_uphill_and_the_weights_come_back_bit_for_bit() -> None:
    # f(w) = sum w^4 / 4, so grad(w) = w^3 and everything is known in closed form.
    start = torch.tensor([1.0, -2.0, 0.1])
    w = nn.Parameter(start.clone())
    sam = SAM(rho=0.5)
    (w**4 / 4).sum().backward()
    assert sam.ascend([w])
    gradient = start**3
    expected = start + 0.5 * gradient / (gradient.norm() + 1e-12)
    torch.testing.assert_close(w.detach(), expected)
    assert w.grad is None
    (w**4 / 4).sum().backward()
    sam.descend()
    assert torch.equal(w.detach(), start)
    torch.testing.assert_close(w.grad, expected**3)


def test_overflow_moves_nothing_and_makes_the_scaler_skip() -> None:
    w = nn.Parameter(torch.ones(3))
    w.grad = torch.tensor([1.0, math.inf, 0.0])
    assert not SAM(rho=0.5).ascend([w])
    assert torch.equal(w.detach(), torch.ones(3))
    assert torch.isinf(w.grad).all()


def test_due_is_the_last_of_every_interval() -> None:
    sam = SAM(rho=0.5, interval=5)
    assert [step for step in range(12) if sam.due(step)] == [4, 9]


@pytest.mark.parametrize("bad", [{"rho": 0.0}, {"rho": -1.0}, {"interval": 0}])
def test_impossible_values_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match="sam"):
        SAM(**bad)  # type: ignore[arg-type]
