"""What makes the host wait for the device in a step, counted on the CPU: reads of a tensor's value."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastpipe.train import distributed
from fastpipe.train.config.groups import OptimizerConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.cudnn import cudnn_benchmark, cudnn_choice
from fastpipe.train.distributed import wrapped
from fastpipe.train.optimizers import build_optimizer
from fastpipe.train.output.report import announcement

CUDA = torch.device("cuda", 0)
DECOUPLED = OptimizerConfig(lr=0.5, momentum=0.9, weight_decay=0.01)
COUPLED = replace(DECOUPLED, decoupled_weight_decay=False)
ADAMW = replace(COUPLED, name="adamw", lr=0.01)


class Reads(TorchDispatchMode):
    """Counts what copies a value from the device to the host and waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def gradients(network: nn.Module, step: int, scale: float) -> Iterator[torch.Tensor]:
    numbers = torch.Generator().manual_seed(step)
    for param in network.parameters():
        yield torch.randn(param.shape, generator=numbers) * scale


def steps_with_scaler(config: OptimizerConfig, *, scaled: bool) -> tuple[nn.Module, int]:
    """Six steps, the third of which overflowed; the model and how often the host read a value."""
    network = model()
    optimizer = build_optimizer(config, network, scaled=scaled)
    scaler, reads = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000), Reads()
    scaler.scale(torch.zeros(()))
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - step / 10)
        with torch.no_grad():
            scale = float(scaler.get_scale())
        for param, grad in zip(network.parameters(), gradients(network, step, scale), strict=True):
            param.grad = grad
        if step == 2:
            next(network.parameters()).grad[0] = torch.inf  # type: ignore[index]
        with reads:
            scaler.step(optimizer)
            scaler.update()
    return network, reads.count


@pytest.mark.parametrize("config", [DECOUPLED, COUPLED, ADAMW], ids=["decoupled", "coupled", "adamw"])
def test_under_a_loss_scaler_no_step_waits_and_all_are_the_same(config: OptimizerConfig) -> None:
    ours, reads = steps_with_scaler(config, scaled=True)
    assert reads == 0
    expected = model()
    optimizer = build_optimizer(config, expected)
    for step in (0, 1, 3, 4, 5):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - step / 10)
        for param, grad in zip(expected.parameters(), gradients(expected, step, 1.0), strict=True):
            param.grad = grad
        optimizer.step()
    for mine, theirs in zip(ours.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_the_count_sees_an_optimizer_that_knows_nothing_of_scalers() -> None:
    _, reads = steps_with_scaler(COUPLED, scaled=False)
    assert reads == 6, "torch's unfused SGD is asked after, at every step"


@pytest.mark.parametrize("config", [DECOUPLED, ADAMW], ids=["decoupled", "adamw"])
def test_an_overflow_changes_neither_weights_nor_what_was_gathered(config: OptimizerConfig) -> None:
    network = model()
    optimizer = build_optimizer(config, network, scaled=True)
    for param, grad in zip(network.parameters(), gradients(network, 0, 1.0), strict=True):
        param.grad = grad
    optimizer.step()
    before = [param.clone() for param in network.parameters()]
    gathered = [copy.deepcopy(optimizer.state[param]) for param in network.parameters()]
    for param in network.parameters():
        param.grad = torch.full_like(param, torch.inf)
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimizer.grad_scale = torch.full((), 1024.0)  # type: ignore[attr-defined]
    optimizer.step()
    for param, weights, kept in zip(network.parameters(), before, gathered, strict=True):
        assert torch.equal(param, weights)
        assert kept and all(torch.equal(optimizer.state[param][name], kept[name]) for name in kept)


@pytest.mark.parametrize("config", [COUPLED, ADAMW], ids=["coupled", "adamw"])
def test_a_state_that_was_not_fused_continues_fused(config: OptimizerConfig) -> None:
    network = model()
    old = build_optimizer(config, network)
    for param, grad in zip(network.parameters(), gradients(network, 0, 1.0), strict=True):
        param.grad = grad
    old.step()
    new = build_optimizer(config, network, scaled=True)
    new.load_state_dict(old.state_dict())
    assert [group["fused"] for group in new.param_groups] == [True]
    new.found_inf, new.grad_scale = torch.zeros(()), None  # type: ignore[attr-defined]
    new.step()


def _ddp_of_2_13(module: nn.Module, device_ids: Any, broadcast_buffers: bool = True, **more: Any) -> Any:
    return device_ids, broadcast_buffers, more


def _ddp_of_2_14(module: nn.Module, device_ids: Any, forward_sync_buffers: bool = True, **more: Any) -> Any:
    return device_ids, forward_sync_buffers, more


@pytest.mark.parametrize("ddp", [_ddp_of_2_13, _ddp_of_2_14])
def test_ddp_copies_no_gradient_and_sends_no_buffer(ddp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNorm's statistics are rank 0's where they are read: in evaluation and in checkpoints."""
    monkeypatch.setattr(distributed, "_alone", lambda: False)
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", ddp)
    assert wrapped(model(), torch.device("cuda", 1)) == ([1], False, {"gradient_as_bucket_view": True})


def said(config: Any) -> list[str]:
    return [line for line in announcement(config, {}, 100, 2, 10, 1, CUDA) if "precision:" not in line]


def test_cudnns_trials_are_decided_by_the_sizes_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = replace(load_recipe("mild"), progressive_resizing=None)
    resized = load_recipe("mild")
    assert resized.progressive_resizing is not None
    assert "cudnn.benchmark: on (images keep one size)" in said(fixed)
    assert "cudnn.benchmark: off (images change their size)" in said(resized)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    assert cudnn_choice(fixed) == (False, "deterministic algorithms were requested")


@pytest.mark.parametrize("before", [True, False])
def test_the_choice_ends_with_the_run(monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with cudnn_benchmark(replace(load_recipe("mild"), progressive_resizing=None), CUDA):
        assert torch.backends.cudnn.benchmark is True
    with cudnn_benchmark(load_recipe("mild"), CUDA):
        assert torch.backends.cudnn.benchmark is False
    assert torch.backends.cudnn.benchmark is before
    with cudnn_benchmark(load_recipe("mild"), torch.device("cpu")):
        assert torch.backends.cudnn.benchmark is before


@pytest.mark.parametrize("bf16", [True, False])
def test_an_optimizer_that_makes_the_scaler_wait_is_named(
    monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    config = load_recipe("mild")
    lamb = replace(config.optimizer, name="lamb", decoupled_weight_decay=False)
    (note,) = [line for line in said(replace(config, optimizer=lamb)) if line.startswith("note: with lamb")]
    assert ("--precision amp_bf16" in note) is bf16
    assert not [line for line in said(config) if "scaler" in line]
