"""Training by our loop beside timm, torch and torchvision, which are installed with the tests.

torchvision's reference scripts are not in its package; what they do is written out here from the published
formulas, over torch's own schedulers and AveragedModel and torchvision's split of norm parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, PolynomialLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.ops._utils import split_normalization_params

from fastpipe.train.algorithms.ema import EMA
from fastpipe.train.algorithms.schedule import set_lr
from fastpipe.train.config.groups import EMAConfig, OptimizerConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.loop import Trainer
from fastpipe.train.optimizers import build_optimizer, parameter_groups

STEPS, EPOCHS, CLASSES = 5, 12, 3
Rates = list[float]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    # No bias before the norm: its gradient is rounding noise, which LAMB scales up.
    layers = [
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, nn.Linear(4, CLASSES))


class Batches:
    """The same five batches of eight in every epoch."""

    def __iter__(self) -> Iterator[Any]:
        made = torch.Generator().manual_seed(1)
        for _ in range(STEPS):
            yield torch.randn(8, 3, 8, 8, generator=made), torch.randint(0, CLASSES, (8,), generator=made)

    def __len__(self) -> int:
        return STEPS

    def set_epoch(self, epoch: int) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def short(name: str) -> TrainConfig:
    """A recipe of 12 epochs with plain data, whatever else it does."""
    return replace(
        load_recipe(name),
        epochs=EPOCHS,
        precision="fp32",
        channels_last=False,
        progressive_resizing=None,
        stochastic_depth=None,
        blurpool=False,
    )


def trainer(config: TrainConfig) -> Trainer:
    return Trainer(
        config=config, model=net(), loader=Batches(), num_classes=CLASSES, device=torch.device("cpu")
    )


def scheduled(make: Callable[[torch.optim.Optimizer], Any], lr: float, calls: int) -> Rates:
    """What a torch scheduler says before each of `calls` of its steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, rates = make(optimizer), []
    for _ in range(calls):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def timms(peak: float) -> Rates:
    """Cosine after the warmup (warmup_prefix), per update; 1e-4 of the peak to 1e-6, as mmpretrain has it."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=(EPOCHS - 5) * STEPS,
        lr_min=1e-6,
        warmup_t=5 * STEPS,
        warmup_lr_init=1e-4 * peak,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    rates = []
    for step in range(EPOCHS * STEPS):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def torchvisions() -> Rates:
    """Per epoch: LinearLR(0.01, 5 epochs), then CosineAnnealingLR over the rest."""

    def make(o: torch.optim.Optimizer) -> SequentialLR:
        warmup = LinearLR(o, start_factor=0.01, total_iters=5)
        return SequentialLR(o, [warmup, CosineAnnealingLR(o, T_max=EPOCHS - 5)], milestones=[5])

    return [rate for rate in scheduled(make, 0.5, EPOCHS) for _ in range(STEPS)]


def ffcvs() -> Rates:
    """get_cyclic_lr: np.interp over epochs, read at every iteration."""
    return list(np.interp(np.arange(EPOCHS * STEPS) / STEPS, [0, 2, EPOCHS], [1e-4 * 1.7, 1.7, 0.0]))


def mlperfs() -> Rates:
    """Two epochs of linear warmup from 0, then pow2."""
    rest = (EPOCHS - 2) * STEPS
    decay = scheduled(lambda o: PolynomialLR(o, total_iters=rest, power=2), 10.5, rest)
    return [10.5 * step / (2 * STEPS) for step in range(2 * STEPS)] + decay


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm_a1", timms(0.005)),
        ("timm_a2", timms(0.005)),
        ("timm_a3", timms(0.008)),
        ("pytorch_blog", torchvisions()),
        ("ffcv", ffcvs()),
        ("nvidia_mlperf", mlperfs()),
    ],
)
def test_the_rate_of_every_step_is_the_librarys(name: str, expected: Rates) -> None:
    """Composer's four are held by test_composer_parity.py."""
    run, seen = trainer(short(name)), []
    for _ in range(EPOCHS):
        run.train_epoch(lambda clock, side, logs: seen.extend(log.lr for log in logs))
    assert seen == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("name", ["timm_a1", "timm_a2", "timm_a3"])
def test_weights_are_those_of_timms_lamb_on_timms_groups(name: str) -> None:
    config = replace(short(name), loss=replace(load_recipe(name).loss, label_smoothing=0.0))
    run = trainer(config)
    theirs = net()
    optimizer = create_optimizer_v2(
        theirs, opt="lamb", lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay
    )
    rates, loss = timms(config.optimizer.lr), nn.BCEWithLogitsLoss()
    theirs.train()
    for epoch in range(3):
        run.train_epoch(lambda *_: None)
        for batch, (images, labels) in enumerate(Batches()):
            for group in optimizer.param_groups:
                group["lr"] = rates[epoch * STEPS + batch]
            loss(theirs(images), nn.functional.one_hot(labels, CLASSES).float()).backward()
            optimizer.step()
            optimizer.zero_grad()
    start = net().state_dict()
    for name_, value in theirs.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name_], value, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(theirs[0].weight, start["0.weight"], rtol=1e-4)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_resnet"])
def test_what_is_spared_from_decay_is_what_timm_spares(name: str) -> None:
    """Position embeddings, tokens and layer scales too."""
    model = timm.create_model(name, num_classes=CLASSES)
    own = getattr(model, "no_weight_decay", set)()
    theirs_free, theirs_decayed = param_groups_weight_decay(model, 0.05, no_weight_decay_list=own)
    decayed, free = parameter_groups(model, on_norm=False, on_bias=False)
    assert {id(p) for p in free["params"]} == {id(p) for p in theirs_free["params"]}
    assert {id(p) for p in decayed["params"]} == {id(p) for p in theirs_decayed["params"]}


def test_a_transformers_tokens_decay_with_the_norms_and_its_biases_apart() -> None:
    model = timm.create_model("test_vit", num_classes=CLASSES)
    names = {id(p): name for name, p in model.named_parameters()}
    _, free = parameter_groups(model, on_norm=False, on_bias=True)
    spared = {names[id(p)] for p in free["params"]}
    assert {"pos_embed", "blocks.0.norm1.bias"} <= spared
    assert not {"head.bias", "blocks.0.attn.qkv.bias", "blocks.0.attn.qkv.weight"} & spared
    _, free = parameter_groups(model, on_norm=True, on_bias=False)
    spared = {names[id(p)] for p in free["params"]}
    assert "head.bias" in spared and not {"pos_embed", "blocks.0.norm1.bias"} & spared


def test_weights_are_those_of_timms_adamw_on_a_transformer() -> None:
    """The same groups, betas and decay (lr x decay, not decay) for eight steps at changing rates."""
    config = OptimizerConfig(
        name="adamw",
        lr=1e-3,
        momentum=0.8,
        beta2=0.98,
        weight_decay=0.3,
        decoupled_weight_decay=False,
        weight_decay_on_norm=False,
        weight_decay_on_bias=False,
    )
    torch.manual_seed(0)
    ours = timm.create_model("test_vit", num_classes=CLASSES, img_size=32)
    theirs, start = copy.deepcopy(ours), copy.deepcopy(ours)
    settings = {"lr": config.lr, "weight_decay": config.weight_decay, "betas": (0.8, 0.98)}
    pairs = [
        (ours, build_optimizer(config, ours)),
        (theirs, create_optimizer_v2(theirs, opt="adamw", **settings)),
    ]
    for step in range(8):
        images, labels = torch.rand(4, 3, 32, 32), torch.randint(CLASSES, (4,))
        for model, optimizer in pairs:
            set_lr(optimizer, config.lr * (step + 1) / 8)
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours.pos_embed, start.pos_embed, atol=1e-3)


def test_norms_without_decay_are_torchvisions_split() -> None:
    """--norm-weight-decay 0: weights and biases of norms are spared, all other biases decay."""
    model = net()
    norms, others = split_normalization_params(model)
    decayed, free = parameter_groups(model, on_norm=False, on_bias=True)
    assert {id(p) for p in free["params"]} == {id(p) for p in norms} and free["weight_decay"] == 0.0
    assert {id(p) for p in decayed["params"]} == {id(p) for p in others} and "weight_decay" not in decayed


def moving(step: int) -> nn.Sequential:
    model = net()
    for value in model.state_dict().values():
        value.copy_(value + 0.1 * step if value.is_floating_point() else torch.tensor(step))
    return model


def floats(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}


def test_averaged_weights_are_timms() -> None:
    """ModelEmaV3 averages buffers too, and its update in step 1 copies."""
    ours = EMA(half_life_batches=8, update_interval=1)
    theirs = ModelEmaV3(net(), decay=ours.smoothing, update_after_step=0)
    for step in range(1, 20):
        ours.after_step(moving(step), step)
        theirs.update(moving(step), step)
    for name, value in floats(theirs.module).items():
        torch.testing.assert_close(ours.shadow[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 2])
def test_averaged_weights_are_torchvisions_with_its_reset(interval: int, warmup: int) -> None:
    """Its loop: update; while the epoch is in the warmup, n_averaged = 0, so that the next update copies.

    Its updates are in steps 0, k, 2k, ... of an epoch, ours after every k-th step: compared at our steps.
    """
    config = replace(
        short("pytorch_blog"),
        schedule=replace(load_recipe("pytorch_blog").schedule, warmup_epochs=float(warmup)),
        ema=EMAConfig(half_life_batches=4, update_interval=interval, reset_during_warmup=True),
    )
    run = trainer(config)
    assert run.ema is not None
    average = get_ema_multi_avg_fn(run.ema.smoothing)
    theirs = AveragedModel(run.model, multi_avg_fn=average, use_buffers=True)
    step = 0
    for epoch in range(4):
        for images, labels in Batches():
            run.model.train()
            run.train_step(images, labels)
            step += 1
            if step % interval == 0:
                theirs.update_parameters(run.model)
                if epoch < warmup:
                    theirs.n_averaged.fill_(0)
    for name, value in floats(theirs.module).items():
        torch.testing.assert_close(run.ema.shadow[name], value, rtol=1e-5, atol=1e-7, msg=name)
