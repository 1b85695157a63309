"""What may change on resume takes effect; what may not is refused by its name."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fastpipe.errors import ArgumentError
from fastpipe.train import load_recipe
from fastpipe.train.algorithms.decoupled_sgd import DecoupledSGD
from fastpipe.train.algorithms.schedule import Schedule, set_lr
from fastpipe.train.cli import main
from fastpipe.train.config.groups import OptimizerConfig
from fastpipe.train.config.keys import config_from_dict, config_to_dict, differing, flat_keys
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.loop import Trainer
from fastpipe.train.optimizers import build_optimizer, continue_optimizer
from fastpipe.train.resume import MAY_CHANGE, changed_with, changes, check_fits

DOCS = Path(__file__).parent.parent.parent / "docs" / "training.md"
# Every group is on, so that every key counts.
FULL = replace(
    load_recipe("hot"),
    pretrained=True,
    mixup_alpha=0.2,
    cutmix_alpha=1.0,
    stochastic_depth=config_from_dict(
        {**config_to_dict(load_recipe("hot")), "stochastic_depth": {"drop_rate": 0.1}}
    ).stochastic_depth,
)
# Another value for each key that may not change.
REFUSED: dict[str, Any] = {
    "model": "resnet18",
    "pretrained": "package",
    "init_from": "last.ckpt",
    "freeze": "backbone",
    "freeze_epochs": 3,
    "preprocessing": "recipe",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "epochs": FULL.epochs + 1,
    "held_out": 0.2,
    "batch_size": FULL.batch_size * 2,
    "train_resolution": 160,
    "val_resolution": 200,
    "val_resize": 300,
    "interpolation": "bicubic",
    "seed": 1,
    "init": "model",
    "optimizer.name": "lars",
    "optimizer.decoupled_weight_decay": False,
    "optimizer.weight_decay_on_norm": not FULL.optimizer.weight_decay_on_norm,
    "optimizer.weight_decay_on_bias": not FULL.optimizer.weight_decay_on_bias,
    "optimizer.layer_decay": 0.9,
    "loss.name": "cross_entropy",
    "loss.reduction": "mean",
    "loss.bias_init": not FULL.loss.bias_init,
    "loss.label_smoothing": 0.3,
    "loss.label_smoothing_mixup": "both" if FULL.loss.label_smoothing_mixup == "composer" else "composer",
    "mixup_alpha": 0.5,
    "cutmix_alpha": 0.0,
    "mixup_switch_prob": 0.25,
    "randaugment": None,
    "randaugment.depth": 5,
    "colout": 0.2,
    "random_erasing": 0.25,
    "repeated_augmentation": 2,
    "blurpool": not FULL.blurpool,
    "ema": None,
    "ema.half_life_batches": 7,
    "ema.update_interval": 3,
    "ema.reset_during_warmup": True,
    "progressive_resizing": None,
    "progressive_resizing.initial_scale": 0.75,
    "sam": None,
    "sam.rho": 0.1,
    "sam.interval": 4,
    "stochastic_depth": None,
    "stochastic_depth.drop_rate": 0.2,
    "stochastic_depth.kind": "timm",
    "grad_accumulation": 2,
    "tta": not FULL.tta,
}


def _changed(key: str, value: Any) -> TrainConfig:
    values = config_to_dict(FULL)
    group, _, leaf = key.rpartition(".")
    (values[group] if group else values)[leaf] = value
    if key == "optimizer.name":
        values["optimizer"]["decoupled_weight_decay"] = False
    if key == "init_from":
        values["pretrained"] = False
    config: TrainConfig = config_from_dict(values)
    return config


def _check(config: TrainConfig, saved: TrainConfig = FULL) -> None:
    trainer: Any = SimpleNamespace(config=config, lr=SimpleNamespace(total_steps=10), task="classes")
    state = {
        "config": config_to_dict(saved),
        "classes": ["a", "b"],
        "schedule": {"total_steps": 10},
        "epochs_measured": 1,
    }
    check_fits(state, Path("last.ckpt"), trainer, ("a", "b"), last_epoch=100)


@pytest.mark.parametrize("key", REFUSED)
def test_what_may_not_change_is_refused_by_name(key: str) -> None:
    _check(FULL)
    with pytest.raises(ArgumentError) as caught:
        _check(_changed(key, REFUSED[key]))
    found = str(caught.value)
    assert re.search(rf"with {key} .*, this run has ", found), found
    assert f"--{key.replace('_', '-')}" in found and "begin in another folder" in found


def test_a_group_that_comes_or_goes_is_one_entry() -> None:
    without = replace(FULL, sam=None)
    assert list(changes(config_to_dict(without), FULL)) == ["sam"]
    assert differing({"a": {"b": 1}, "c": None}, {"a": {"b": 2}, "c": {"d": 1}}) == {
        "a.b": (1, 2),
        "c": (None, {"d": 1}),
    }


def test_a_checkpoint_that_does_not_know_a_key_has_its_default() -> None:
    saved = config_to_dict(FULL)
    del saved["tta"], saved["grad_clip"]
    assert changes(saved, FULL) == differing(
        {"tta": TrainConfig().tta, "grad_clip": TrainConfig().grad_clip},
        {"tta": FULL.tta, "grad_clip": FULL.grad_clip},
    )


def test_every_key_is_decided_and_the_page_says_which_may_change() -> None:
    """The keys of optional groups that are not named here fall under the rule: not in the table, refused."""
    keys = set(flat_keys())
    assert set(MAY_CHANGE) <= keys and set(REFUSED) <= keys and not set(MAY_CHANGE) & set(REFUSED)
    inner = ("randaugment.", "progressive_resizing.")
    groups = ("optimizer", "schedule", "loss", "table")
    undecided = keys - set(MAY_CHANGE) - set(REFUSED) - set(groups)
    assert [key for key in undecided if not key.startswith(inner)] == []
    _, _, rest = DOCS.read_text(encoding="utf-8").partition("### What may change on resume")
    table = rest.partition("\n#")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([\w.]+)`", " ".join(first))) == set(MAY_CHANGE)


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def _step(optimizer: torch.optim.Optimizer, model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        param.grad = torch.randn(param.shape, generator=generator)
    optimizer.step()


OPTIMIZERS = {
    "sgd decoupled": OptimizerConfig(lr=0.1, weight_decay=0.01, momentum=0.9),
    "sgd": OptimizerConfig(lr=0.1, weight_decay=0.01, momentum=0.9, decoupled_weight_decay=False),
    "lamb": OptimizerConfig(name="lamb", lr=0.1, weight_decay=0.01, decoupled_weight_decay=False),
    "adamw": OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.01, decoupled_weight_decay=False),
    "lars": OptimizerConfig(name="lars", lr=0.1, weight_decay=0.01, decoupled_weight_decay=False),
}


@pytest.mark.parametrize("change", [{}, {"weight_decay": 0.2}, {"momentum": 0.3}, {"lr": 1.0}], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_changed_settings_of_an_optimizer_move_the_weights(name: str, change: dict[str, float]) -> None:
    """As if the settings of the optimizer that was saved had been changed by hand, its peak too."""
    config = replace(OPTIMIZERS[name], weight_decay_on_norm=False)
    model = _model()
    first = build_optimizer(config, model)
    for seed in range(3):
        _step(first, model, seed)
    state = copy.deepcopy(first.state_dict())
    resumed = copy.deepcopy(model)
    second = build_optimizer(replace(config, **change), resumed)
    continue_optimizer(second, copy.deepcopy(state))
    for group in first.param_groups:
        if "weight_decay" in change and group["weight_decay"]:
            group["weight_decay"] = change["weight_decay"]
        if "momentum" in change:
            group |= {"betas": (0.3, 0.999)} if name in ("adamw", "lamb") else {"momentum": 0.3}
        if "lr" in change and name == "sgd decoupled":
            group["initial_lr"] = 1.0
    unchanged = copy.deepcopy(model)
    third = build_optimizer(config, unchanged)
    continue_optimizer(third, copy.deepcopy(state))
    for optimizer, its in ((first, model), (second, resumed), (third, unchanged)):
        set_lr(optimizer, change.get("lr", 0.1))
        _step(optimizer, its, 9)
    for ours, expected in zip(resumed.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)
    same = all(torch.equal(a, b) for a, b in zip(resumed.parameters(), unchanged.parameters(), strict=True))
    assert same == (not change or (change == {"lr": 1.0} and name != "sgd decoupled"))


def test_the_decay_follows_the_new_peak() -> None:
    """At the peak a step shrinks the weights by the decay itself, whatever the peak was before."""
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    state = DecoupledSGD([first], lr=0.05, weight_decay=1e-2).state_dict()
    optimizer = DecoupledSGD([second], lr=0.5, weight_decay=1e-2)
    optimizer.load_state_dict(state)
    set_lr(optimizer, 0.5)
    second.grad = torch.zeros(1)
    optimizer.step()
    assert 1.0 - second.item() == pytest.approx(1e-2, rel=1e-5)


class Batches:
    """Two batches an epoch."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            yield [torch.randn(4, 3, 3, 3, generator=generator), torch.tensor([0, 1, 0, 1])]

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is alike."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is nothing to continue."""


CONFIG = replace(
    load_recipe("mild"),
    epochs=4,
    ema=None,
    optimizer=OptimizerConfig(lr=0.1, momentum=0.0, weight_decay=0.0),
    schedule=replace(load_recipe("mild").schedule, warmup_epochs=1.0),
)


def _resumed(**change: Any) -> tuple[Trainer, dict[str, Any]]:
    """A trainer with the change, and the state after the first epoch without it that it has loaded."""
    kept = {"num_classes": 2, "device": torch.device("cpu")}
    first = Trainer(config=CONFIG, model=_model(), loader=Batches(), **kept)
    first.train_epoch(lambda *_: None)
    state = copy.deepcopy(first.state_dict())
    second = Trainer(config=replace(CONFIG, **change), model=_model(), loader=Batches(), **kept)
    second.load_state_dict(state)
    return second, state


@pytest.mark.parametrize(
    "change",
    [
        {"name": "linear"},
        {"warmup_epochs": 3.0},
        {"warmup_start": 0.5, "warmup_epochs": 3.0},
        {"resolution": "epoch"},
        {"min_lr": 0.05},
    ],
    ids=str,
)
def test_a_changed_schedule_gives_the_rates_of_the_coming_steps(change: dict[str, Any]) -> None:
    schedule = replace(CONFIG.schedule, **change)
    trainer, _ = _resumed(schedule=schedule)
    rates: list[float] = []
    trainer.train_epoch(lambda clock, size, logs: rates.extend(log.lr for log in logs))
    own = {"warmup_epochs": schedule.warmup_epochs, "warmup_start": schedule.warmup_start}
    expected = Schedule(
        name=schedule.name,
        peak=0.1,
        epochs=4,
        steps_per_epoch=2,
        minimum=schedule.min_lr,
        resolution=schedule.resolution,
        **own,
    )
    assert rates == [expected(2), expected(3)]
    assert rates != list(map(_resumed()[0].lr, (2, 3)))
    assert trainer.optimizer.param_groups[0]["lr"] == expected(3)


def test_clipping_layout_and_compilation_are_those_of_the_resumed_run() -> None:
    trainer, state = _resumed(grad_clip=1e-12)
    trainer.train_epoch(lambda *_: None)
    for name, param in trainer.model.named_parameters():
        torch.testing.assert_close(param, state["model"][name], rtol=0.0, atol=1e-10)
    assert _resumed(compile=True)[0].training_forward is not _resumed()[0].network
    poisoned, _ = _resumed(skip_nonfinite=1)
    poisoned.train_step(torch.full((4, 3, 3, 3), torch.nan), torch.tensor([0, 1, 0, 1]))
    assert poisoned.skipped == 1


def test_a_changed_precision_counts_and_its_loss_scale_begins_anew() -> None:
    trainer, state = _resumed(precision="amp_bf16")
    assert trainer.precision == "amp_bf16"
    trainer.train_epoch(lambda *_: None)
    assert state["scaler"] == {}  # float32 has none
    trainer.scaler = torch.amp.GradScaler("cpu")
    trainer.load_state_dict(state)
    assert trainer.scaler.get_scale() == 2.0**16


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise on red or green: 16 and 5 of each for training and validation."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 5)):
        for label, name in enumerate(("red", "green")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.jpg")
    return root


def _args(photos: Path, folder: Path, *more: str) -> list[str]:
    own = ("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8")
    fixed = ("--backend", "torchvision", "--num-workers", "0", "--progressive-resizing", "null")
    run = ("--epochs", "3", "--data", str(photos), "--output-dir", str(folder), "--resume", "auto")
    return [*own, *fixed, "--optimizer.lr", "0.02", *run, *more]


def test_a_run_resumed_with_other_settings_uses_them_and_says_so(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_args(photos, tmp_path, "--extrapolate-from", "2")) == 0
    change = ("--optimizer.lr", "0.2", "--optimizer.weight-decay", "0.3", "--optimizer.momentum", "0.5")
    assert main(_args(photos, tmp_path, *change)) == 0
    said = capsys.readouterr().out
    assert "changed after step 8: optimizer.lr 0.02 -> 0.2" in said
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    group = state["optimizer"]["param_groups"][0]
    assert (group["initial_lr"], group["weight_decay"], group["momentum"]) == (0.2, 0.3, 0.5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if line["kind"] == "step"]
    assert max(rates[:8]) <= 0.02 < rates[8] <= 0.2
    expected = {"optimizer.lr", "optimizer.weight_decay", "optimizer.momentum"}
    told = json.loads((tmp_path / "summary.json").read_text())["changed_on_resume"]
    assert {change["key"] for change in told} == expected
    assert all(change["step"] == 8 for change in told)
    # A later resume without a change keeps what was told.
    assert changed_with(state, config_from_dict(state["config"])) == told


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            ("--optimizer.name", "lamb", "--optimizer.decoupled-weight-decay", "false"),
            "optimizer.name 'sgd', this run has 'lamb'",
        ),
        (("--mixup-alpha", "0.5"), "mixup_alpha 0.0, this run has 0.5"),
        (("--loss.label-smoothing", "0.2"), "loss.label_smoothing 0.08, this run has 0.2"),
        (("--train-resolution", "64"), "train_resolution 32, this run has 64"),
        (("--grad-accumulation", "2"), "grad_accumulation 1, this run has 2"),
    ],
)
def test_the_command_refuses_before_it_changes_anything(
    change: tuple[str, ...],
    named: str,
    stopped: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    assert main(_args(photos, stopped, *change)) == 2
    assert named in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


@pytest.fixture(scope="module")
def stopped(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of which two of three epochs are done."""
    folder = tmp_path_factory.mktemp("stopped")
    assert main(_args(photos, folder, "--extrapolate-from", "2")) == 0
    return folder
