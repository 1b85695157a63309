"""What may change in a step and not in its meaning: bfloat16, micro-batches, compiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from fastpipe.train.config.groups import LossConfig, OptimizerConfig, ScheduleConfig
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.loop import Trainer

CONFIG = TrainConfig(
    epochs=1,
    batch_size=8,
    precision="fp32",
    channels_last=False,
    optimizer=OptimizerConfig(lr=0.1),
    schedule=ScheduleConfig(warmup_epochs=0.0),
    loss=LossConfig(label_smoothing=0.1),
)


class Sized:
    """One batch of each side, in turn."""

    def __init__(self, *sides: int) -> None:
        self.sides = sides

    def __iter__(self) -> Iterator[Any]:
        made = torch.Generator().manual_seed(0)
        for side in self.sides:
            yield torch.randn(8, 3, side, side, generator=made), torch.arange(8) % 3

    def __len__(self) -> int:
        return len(self.sides)

    def set_epoch(self, epoch: int) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def trained(config: TrainConfig, *sides: int) -> tuple[Trainer, list[float]]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    run = Trainer(config=config, model=model, loader=Sized(*sides), num_classes=3, device=torch.device("cpu"))
    losses: list[float] = []
    run.train_epoch(lambda clock, side, logs: losses.extend(log.loss for log in logs))
    return run, losses


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_micro_batches_leave_the_weights_of_one_pass(parts: int) -> None:
    whole, losses = trained(CONFIG, 8, 8, 8)
    split, their_losses = trained(replace(CONFIG, grad_accumulation=parts), 8, 8, 8)
    assert their_losses == pytest.approx(losses, rel=1e-5)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(split.model.state_dict()[name], value, rtol=1e-5, atol=1e-7)


def test_bfloat16_is_used_inside_and_only_there() -> None:
    inside: list[torch.dtype] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        inside.append(output.dtype)

    handle = nn.modules.module.register_module_forward_hook(
        lambda m, i, o: note(m, i, o) if isinstance(m, nn.Conv2d) else None
    )
    try:
        run, losses = trained(replace(CONFIG, precision="amp_bf16"), 8, 8, 8)
    finally:
        handle.remove()
    assert set(inside) == {torch.bfloat16}
    assert {value.dtype for value in run.model.state_dict().values()} == {torch.float32}
    assert not run.scaler.is_enabled()
    _, exact = trained(CONFIG, 8, 8, 8)
    assert losses == pytest.approx(exact, rel=2e-2) and losses != exact


def test_one_compilation_per_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by torch's own counter in place of a compiler; the weights are those of the plain model."""
    counter = CompileCounter()
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    sides = (16, 20, 16, 24, 20, 16)
    run, losses = trained(replace(CONFIG, compile=True), *sides)
    assert counter.frame_count == len(set(sides))
    plain, their_losses = trained(CONFIG, *sides)
    assert losses == pytest.approx(their_losses, rel=1e-5)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, rtol=1e-5, atol=1e-7)
