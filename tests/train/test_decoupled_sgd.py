"""Decoupled SGD against hand computation."""

from __future__ import annotations

import pytest
import torch

from fastpipe.errors import ArgumentError
from fastpipe.train.algorithms.decoupled_sgd import DecoupledSGD
from fastpipe.train.algorithms.schedule import set_lr


def test_three_steps_by_hand() -> None:
    """p and the gradients are chosen so that every product can be checked with a pencil."""
    p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = DecoupledSGD([p], lr=2.0, momentum=0.5, weight_decay=0.1)
    expected, buf = 1.0, 0.0
    for lr, grad in ((0.0, 4.0), (1.0, 2.0), (2.0, -1.0)):
        set_lr(optimizer, lr)
        p.grad = torch.tensor([grad], dtype=torch.float64)
        optimizer.step()
        buf = 0.5 * buf + grad
        expected = expected * (1 - lr / 2.0 * 0.1) - lr * buf
        assert p.item() == pytest.approx(expected, rel=1e-14)
    # At lr 0 nothing moves, but the gradient is remembered. Then 1 * .95 - 4 = -3.05 and -3.05 * .9 - 2.
    assert expected == pytest.approx(-4.745)


def test_decay_follows_the_peak_not_the_size_of_the_rate() -> None:
    shrunk = []
    for peak in (0.01, 10.0):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = DecoupledSGD([p], lr=peak, weight_decay=5e-4)
        p.grad = torch.zeros(3)
        optimizer.step()
        shrunk.append(p[0].item())
    assert shrunk[0] == shrunk[1] == pytest.approx(1 - 5e-4)


def test_momentum_survives_in_a_saved_state_and_the_peak_is_ones_own() -> None:
    p = torch.nn.Parameter(torch.ones(1))
    first = DecoupledSGD([p], lr=2.0, momentum=0.9, weight_decay=0.1)
    set_lr(first, 0.5)
    p.grad = torch.ones(1)
    first.step()
    second = DecoupledSGD([torch.nn.Parameter(torch.ones(1))], lr=7.0)
    second.load_state_dict(first.state_dict())
    group = second.param_groups[0]
    assert (group["initial_lr"], group["lr"], group["weight_decay"]) == (7.0, 0.5, 0.1)
    buffer = next(iter(second.state.values()))["momentum_buffer"]
    torch.testing.assert_close(buffer, torch.ones(1))


def test_parameters_without_gradient_stay() -> None:
    frozen, moved = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = DecoupledSGD([frozen, moved], lr=1.0, weight_decay=0.5)
    moved.grad = torch.zeros(1)
    optimizer.step()
    assert (frozen.item(), moved.item()) == (1.0, 0.5)


@pytest.mark.parametrize(
    "bad", [{"lr": 0.0}, {"lr": 1.0, "momentum": 1.0}, {"lr": 1.0, "weight_decay": -1.0}]
)
def test_impossible_values_name_the_key(bad: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match="optimizer"):
        DecoupledSGD([torch.nn.Parameter(torch.ones(1))], **bad)
