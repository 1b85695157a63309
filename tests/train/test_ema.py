"""EMA against its closed form, buffers included."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastpipe.errors import ArgumentError
from fastpipe.train.algorithms.ema import EMA, smoothing_factor


def test_smoothing_of_the_published_setting() -> None:
    assert smoothing_factor(100, 20) == pytest.approx(0.870551, abs=1e-6)
    assert smoothing_factor(100, 100) == 0.5


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)).double()


def _set(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


def test_closed_form_after_many_steps() -> None:
    """Weights equal to the step number: the shadow is a geometric sum over the update steps."""
    model, ema = _model(), EMA(half_life_batches=10, update_interval=3)
    updates = [step for step in range(1, 31) if step % 3 == 0]
    for step in range(1, 31):
        _set(model, float(step))
        assert ema.after_step(model, step) is (step in updates)
    s, n = 2.0 ** -(3 / 10), len(updates)
    closed = s ** (n - 1) * updates[0] + sum((1 - s) * s ** (n - 1 - k) * updates[k] for k in range(1, n))
    for name in ("0.weight", "1.weight", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(
            ema.shadow[name], torch.full_like(ema.shadow[name], closed), rtol=1e-12, atol=0.0
        )
    # Integer buffers are truncated at each update, so they lag but stay integers.
    counter = ema.shadow["1.num_batches_tracked"]
    expected = updates[0]
    for step in updates[1:]:
        expected = int(expected * s + step * (1 - s))
    assert counter.dtype == torch.int64 and counter.item() == expected


def test_first_update_copies_and_none_comes_before() -> None:
    model, ema = _model(), EMA(half_life_batches=100, update_interval=20)
    for step in range(1, 20):
        ema.after_step(model, step)
    assert ema.shadow == {}
    _set(model, 3.0)
    assert ema.after_step(model, 20)
    _set(model, 4.0)
    assert torch.all(ema.shadow["0.weight"] == 3.0)


def test_swap_lends_the_average_and_gives_the_weights_back_even_after_an_error() -> None:
    model, ema = _model(), EMA(half_life_batches=1, update_interval=1)
    _set(model, 1.0)
    ema.after_step(model, 1)
    _set(model, 2.0)
    with pytest.raises(RuntimeError, match="evaluation failed"), ema.swapped(model) as lent:
        assert lent and torch.all(model[0].weight == 1.0) and torch.all(model[1].running_mean == 1.0)
        raise RuntimeError("evaluation failed")
    assert torch.all(model[0].weight == 2.0) and torch.all(ema.shadow["0.weight"] == 1.0)


def test_swap_without_an_average_leaves_the_model() -> None:
    model, ema = _model(), EMA()
    before = model[0].weight.clone()
    with ema.swapped(model) as lent:
        assert lent is False
        assert torch.equal(model[0].weight, before)


def test_state_continues() -> None:
    model, first = _model(), EMA(half_life_batches=4, update_interval=1)
    second = EMA(half_life_batches=4, update_interval=1)
    _set(model, 1.0)
    first.after_step(model, 1)
    second.load_state_dict(first.state_dict(), model)
    _set(model, 2.0)
    first.after_step(model, 2)
    second.after_step(model, 2)
    assert all(torch.equal(first.shadow[name], second.shadow[name]) for name in first.shadow)
    assert first.shadow["0.weight"].data_ptr() != second.shadow["0.weight"].data_ptr()


@pytest.mark.parametrize("bad", [{"half_life_batches": 0}, {"update_interval": 0}])
def test_impossible_values(bad: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        EMA(**bad)
