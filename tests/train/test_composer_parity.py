"""Training by our loop against numbers that MosaicML Composer computed (scripts/golden_composer.py).

Composer 0.32 steps its schedulers before its clock, so that its step k has the rate of k - 1; the published
formula, and ours, has the rate of k. Weights are compared at Composer's rates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastpipe.device.draws.batch import draw_colout
from fastpipe.train.algorithms.blurpool import apply_blurpool
from fastpipe.train.algorithms.progressive_resizing import ProgressiveSize
from fastpipe.train.algorithms.schedule import set_lr
from fastpipe.train.augment import side_after_colout
from fastpipe.train.config.groups import EMAConfig, LossConfig, OptimizerConfig, SAMConfig, ScheduleConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import resolution_of
from fastpipe.train.loop import Trainer
from fastpipe.train.optimizers import build_optimizer
from fastpipe.train.step import schedule_of
from fastpipe.transforms import ColOut
from fastpipe.types import Request

GOLDEN = json.loads((Path(__file__).parent / "golden" / "composer.json").read_text())
EPOCHS, STEPS, BATCH, CLASSES, SIDE = 5, 6, 4, 3, 40
CONFIG = TrainConfig(
    epochs=EPOCHS,
    batch_size=BATCH,
    precision="fp32",
    channels_last=False,
    optimizer=OptimizerConfig(lr=0.5, momentum=0.875, weight_decay=5e-3),
    schedule=ScheduleConfig(warmup_epochs=2),
    loss=LossConfig(name="bce", label_smoothing=0.0),
)


def numbers(*shape: int, scale: float = 1.0) -> Tensor:
    count = torch.Size(shape).numel()
    return (torch.sin(torch.arange(1, count + 1, dtype=torch.float64)) * scale).float().reshape(shape)


def net() -> nn.Sequential:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8, CLASSES))
    for value in model.parameters():
        value.data.copy_(numbers(*value.shape, scale=0.3))
    return model


class Batches:
    """The same batches in every epoch, in order."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = numbers(3, SIDE, SIDE)
        images = torch.stack([torch.cos(first * (i + 1)) for i in range(BATCH * STEPS)])
        labels = torch.arange(BATCH * STEPS) % CLASSES
        yield from zip(images.split(BATCH), labels.split(BATCH), strict=True)

    def __len__(self) -> int:
        return STEPS

    def set_epoch(self, epoch: int) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def trained(config: TrainConfig, steps: int = EPOCHS * STEPS) -> tuple[Trainer, list[list[float]]]:
    """The first steps of a run at Composer's rates, and the classifier's bias after each."""
    model, bias = net(), []
    trainer = Trainer(
        config=config, model=model, loader=Batches(), num_classes=CLASSES, device=torch.device("cpu")
    )
    rates = GOLDEN["plain"]["lr"]
    trainer.lr = rates.__getitem__  # type: ignore[assignment]
    model.train()
    for images, labels in [*trainer.loader] * (steps // STEPS) or [*trainer.loader][:steps]:
        trainer.train_step(images, labels)
        bias.append(model[4].bias.tolist())  # type: ignore[operator, union-attr]
    return trainer, bias


def same(found: Mapping[str, Tensor], golden: Mapping[str, list[float]]) -> None:
    for name, values in golden.items():
        expected = torch.tensor(values)
        torch.testing.assert_close(
            found[name].flatten().to(expected.dtype),
            expected,
            rtol=2e-4,
            atol=2e-6,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_rates_are_composers_one_step_earlier() -> None:
    ours = schedule_of(CONFIG, STEPS)
    assert [ours(step) for step in range(EPOCHS * STEPS - 1)] == pytest.approx(GOLDEN["plain"]["lr"][1:])


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("plain", CONFIG),
        ("label_smoothing", replace(CONFIG, loss=LossConfig(name="bce", label_smoothing=0.1))),
        ("sam", replace(CONFIG, sam=SAMConfig(rho=0.5, interval=3))),
    ],
)
def test_weights_after_every_step_are_composers(name: str, config: TrainConfig) -> None:
    trainer, bias = trained(config)
    torch.testing.assert_close(torch.tensor(bias), torch.tensor(GOLDEN[name]["bias"]), rtol=2e-4, atol=2e-6)
    same(trainer.model.state_dict(), GOLDEN[name]["final"])
    assert GOLDEN[name]["final"] != GOLDEN["plain"]["final"] or name == "plain"


def test_averaged_weights_are_composers() -> None:
    """Ours starts with a copy at the first update, as Composer 0.7.1; 0.32 copies after the first step.

    After n updates that is a difference of s ** n * (weights after step 1 - first copy), added here.
    """
    config = replace(CONFIG, ema=EMAConfig(half_life_batches=4, update_interval=2))
    first, _ = trained(config, steps=1)
    early, _ = trained(config, steps=2)
    trainer, _ = trained(config)
    assert early.ema is not None and trainer.ema is not None
    left = trainer.ema.smoothing ** (EPOCHS * STEPS // 2)
    start = first.model.state_dict()
    moved = {
        name: value + left * (start[name] - early.ema.shadow[name])
        for name, value in trainer.ema.shadow.items()
        if value.is_floating_point()
    }
    same(moved, {name: values for name, values in GOLDEN["ema"].items() if name in moved})


def test_blurred_layers_give_composers_output() -> None:
    model = nn.Sequential(nn.Conv2d(16, 4, 3, stride=2, padding=1, bias=False), nn.MaxPool2d(3, 2, 1))
    model[0].weight.data.copy_(numbers(4, 16, 3, 3))
    apply_blurpool(model)
    found = model(numbers(2, 16, 11, 12)).flatten()
    torch.testing.assert_close(found, torch.tensor(GOLDEN["blurpool"]["out"]), rtol=1e-5, atol=1e-5)


def test_sizes_at_epoch_starts_are_composers() -> None:
    """Composer steps per epoch when the duration is in epochs; ours per step, equal where an epoch begins."""
    size = ProgressiveSize(steps_per_epoch=STEPS, total_steps=STEPS * EPOCHS, full_size=SIDE)
    assert [size(epoch, 0) for epoch in range(EPOCHS)] == GOLDEN["progressive_resizing"][::STEPS]


def test_colout_keeps_as_many_rows_and_columns_as_composer() -> None:
    ids = torch.zeros(1, dtype=torch.int64).numpy()
    request = Request(seed=0, epoch=0, batch=0, ids=ids, repeats=ids)
    for side, kept in GOLDEN["colout"].items():
        drawn = draw_colout(ColOut(p_row=0.05, p_col=0.05), request, int(side), int(side))
        assert [len(drawn.rows), len(drawn.columns)] == kept, side


RECIPES = {"mild": 36, "medium": 135, "hot": 270, "nvidia_hparams": 90}


@pytest.mark.parametrize("name", RECIPES)
def test_rates_and_decay_of_a_whole_recipe_are_composers(name: str) -> None:
    """One step an epoch. A weight without gradient shows the decay: 1 - (lr / peak) * weight_decay a step."""
    golden, config = GOLDEN["recipes"][name], load_recipe(name)
    assert len(golden["lr"]) == config.epochs == RECIPES[name]
    ours = schedule_of(config, 1)
    assert [ours(step) for step in range(config.epochs - 1)] == pytest.approx(golden["lr"][1:], abs=1e-12)
    idle = nn.Parameter(torch.ones(1, dtype=torch.float64))
    decay = replace(config.optimizer, weight_decay=5e-4)
    optimizer = build_optimizer(decay, nn.ParameterList([idle]))
    seen = []
    for rate in golden["lr"]:
        set_lr(optimizer, rate)
        idle.grad = torch.zeros_like(idle)
        optimizer.step()
        seen.append(idle.item())
    assert seen == pytest.approx(golden["idle"], rel=1e-12)
    assert seen[-1] < 0.999


@pytest.mark.parametrize("name", RECIPES)
def test_sizes_of_every_epoch_are_composers(name: str) -> None:
    """Hot in Composer's order, ColOut and then the resize: where=device.

    Composer passes scale_factor, of which interpolate takes the floor; ours passes size. They differ by one
    pixel at the sizes where size / side * side is just below a whole number.
    """
    config, golden = load_recipe(name), GOLDEN["recipes"][name]["side"]
    progressive = config.progressive_resizing
    if progressive is None:
        assert set(golden) == {176}  # the golden run's images; nothing may have changed them
        return
    config = replace(config, progressive_resizing=replace(progressive, where="device"))
    size = resolution_of(config, 1)
    assert size is not None
    full = side_after_colout(config)
    ours = [size(epoch, 0) for epoch in range(config.epochs)]
    assert [int(full * (side / full)) for side in ours] == golden
    assert all(side - theirs in (0, 1) for side, theirs in zip(ours, golden, strict=True))


def test_gradients_of_a_second_pass_are_composers() -> None:
    """Of the third batch, at the starting weights moved by rho along that batch's gradient."""
    config = replace(
        CONFIG, sam=SAMConfig(rho=0.5, interval=3), optimizer=OptimizerConfig(lr=1e-30, weight_decay=0.0)
    )
    trainer = Trainer(
        config=config, model=net(), loader=Batches(), num_classes=CLASSES, device=torch.device("cpu")
    )
    trainer.model.train()
    found: dict[str, Tensor] = {}
    step = trainer.optimizer.step

    def watched(closure: None = None) -> None:
        found.update(
            {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
        )
        step(closure)

    trainer.optimizer.step = watched  # type: ignore[method-assign, assignment]
    for images, labels in [*trainer.loader][:3]:
        trainer.train_step(images, labels)
    same(found, GOLDEN["sam_gradients"])
