"""Frozen layers keep every bit; layer-wise rates are timm's; both survive a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor

from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.train.algorithms.freezing import frozen_names
from fastpipe.train.algorithms.schedule import set_lr
from fastpipe.train.classifier import classifier_names
from fastpipe.train.config.groups import EMAConfig, OptimizerConfig, SAMConfig
from fastpipe.train.config.no_effect import warn_without_effect
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.loop import Trainer
from fastpipe.train.optimizers import build_optimizer

DECAYED = OptimizerConfig(lr=0.05, momentum=0.9, weight_decay=0.01)
CONFIG = replace(
    load_recipe("finetune"),
    freeze=0,
    model="test_resnet",
    pretrained=True,
    precision="fp32",
    epochs=3,
    batch_size=4,
    optimizer=DECAYED,
    ema=EMAConfig(half_life_batches=3, update_interval=1),
)


class Batches:
    """Three batches an epoch of random images, a function of the epoch alone."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.epoch)
        for _ in range(3):
            yield [torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([0, 1, 0, 1])]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]


def _trainer(config: TrainConfig) -> Trainer:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=2)
    return Trainer(config=config, model=model, loader=Batches(), num_classes=2, device=torch.device("cpu"))


def _state(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("sam", [None, SAMConfig(rho=0.5)], ids=["plain", "sam"])
@pytest.mark.parametrize("freeze", ["backbone", 3])
def test_frozen_layers_keep_every_bit(freeze: Any, sam: SAMConfig | None) -> None:
    trainer = _trainer(replace(CONFIG, freeze=freeze, sam=sam))
    before = _state(trainer)
    for _ in range(2):
        trainer.train_epoch(lambda *_: None)
    after = _state(trainer)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert "fc.weight" in changed
    assert changed & set(trainer.frozen) == set()
    assert changed | set(trainer.frozen) == set(after)  # nothing else stood still, statistics included
    assert trainer.ema is not None
    shadow = trainer.ema.shadow
    assert all(torch.equal(shadow[name], before[name]) for name in trainer.frozen)
    assert not torch.equal(shadow["fc.weight"], after["fc.weight"])
    assert len(trainer.optimizer.state) == len(changed & dict(trainer.model.named_parameters()).keys())


def test_layers_are_counted_as_timm_counts_them() -> None:
    model = timm.create_model("resnet18", num_classes=2)
    names = frozen_names(model, 2, ("fc",))
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1"}
    assert "layer1.0.bn1.running_mean" in names and "layer1.1.conv1.weight" not in names
    with pytest.raises(ArgumentError, match="at most 9 for ResNet, whose layer 10 has the classifier"):
        frozen_names(model, 10, ("fc",))


def _straight(config: TrainConfig) -> list[dict[str, Tensor]]:
    trainer, states = _trainer(config), []
    for _ in range(config.epochs):
        trainer.train_epoch(lambda *_: None)
        states.append(_state(trainer))
    return states


@pytest.mark.parametrize(
    ("name", "share", "number", "first"),
    [
        ("tf_efficientnet_lite2", 0.55, 12, "blocks.4.0."),
        ("resnet18", 0.5, 5, "layer3.0."),
        ("vit_tiny_patch16_224", 0.5, 7, "blocks.6."),
    ],
)
def test_a_share_of_the_layers_is_their_number_rounded(
    name: str, share: float, number: int, first: str
) -> None:
    model = timm.create_model(name, num_classes=2)
    head = classifier_names(model, "")
    found = frozen_names(model, share, head)
    assert found == frozen_names(model, number, head)
    trained = [name for name, _ in model.named_parameters() if name not in found]
    assert any(name.startswith(first) for name in trained) and not any(
        name.startswith(first) for name in found
    )


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, freeze="backbone", freeze_epochs=1),
        replace(CONFIG, freeze=3, freeze_epochs=2, optimizer=replace(DECAYED, layer_decay=0.7)),
        replace(CONFIG, optimizer=replace(DECAYED, layer_decay=0.7, decoupled_weight_decay=False)),
    ],
    ids=["thaws", "thaws late, layer decay", "layer decay"],
)
def test_a_resumed_run_is_bit_for_bit_the_same(config: TrainConfig) -> None:
    """Saved after each epoch, and so before, at and after the thawing."""
    expected = _straight(config)
    for saved_after in (1, 2):
        trainer = _trainer(config)
        for _ in range(saved_after):
            trainer.train_epoch(lambda *_: None)
        state = copy.deepcopy(trainer.state_dict())
        resumed = _trainer(config)
        resumed.load_state_dict(state)
        while resumed.epoch < config.epochs:
            resumed.train_epoch(lambda *_: None)
        assert all(torch.equal(value, expected[-1][name]) for name, value in _state(resumed).items())


def test_thawed_layers_train_and_their_statistics_move() -> None:
    first, second, _ = _straight(replace(CONFIG, freeze="backbone", freeze_epochs=1))
    for name in ("conv1.0.weight", "bn1.running_mean"):
        assert not torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_layer_decay_gives_every_weight_timms_rate(name: str) -> None:
    model = timm.create_model(name, num_classes=3)
    names = {id(param): key for key, param in model.named_parameters()}
    config = OptimizerConfig(lr=0.1, weight_decay=0.01, decoupled_weight_decay=False, layer_decay=0.65)
    optimizer = build_optimizer(config, model)
    set_lr(optimizer, 0.05)
    ours = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    theirs = {
        names[id(p)]: 0.05 * group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.65)
        for p in group["params"]
    }
    assert ours == pytest.approx(theirs) and len(set(theirs.values())) > 5
    assert (
        ours[
            next(
                key
                for key in ours
                if key.endswith("classifier.weight") or key in ("fc.weight", "head.weight")
            )
        ]
        == 0.05
    )


def test_the_decoupled_decay_of_every_layer_follows_the_schedule_alone() -> None:
    """At the peak each weight shrinks by weight_decay, however low the rate of its layer."""
    model = timm.create_model("test_resnet", num_classes=2)
    optimizer = build_optimizer(replace(DECAYED, layer_decay=0.5), model)
    set_lr(optimizer, DECAYED.lr / 2)
    before = model.conv1[0].weight.detach().clone()
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    torch.testing.assert_close(model.conv1[0].weight, before * (1 - 0.01 / 2))


def test_settings_without_effect_warn() -> None:
    with pytest.warns(NoEffectWarning, match="freeze_epochs ends the freezing"):
        warn_without_effect(replace(CONFIG, freeze_epochs=1), explicit=("freeze_epochs",))
    decayed = replace(CONFIG, freeze="backbone", optimizer=replace(DECAYED, layer_decay=0.5))
    with pytest.warns(NoEffectWarning, match="optimizer.layer_decay lowers"):
        warn_without_effect(decayed, explicit=("optimizer.layer_decay",))


def test_a_model_whose_layers_timm_does_not_number_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"optimizer\.layer_decay must be 1"):
        build_optimizer(replace(DECAYED, layer_decay=0.5), torch.nn.Sequential(torch.nn.Linear(2, 2)))
