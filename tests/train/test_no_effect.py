"""Each method warns when it changed nothing, and is quiet when it did."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fastpipe.train import NoEffectWarning
from fastpipe.train.algorithms.channels_last import to_memory_format
from fastpipe.train.algorithms.ema import EMA, averaging_updates
from fastpipe.train.cli import main
from fastpipe.train.config.groups import (
    EMAConfig,
    LossConfig,
    OptimizerConfig,
    RandAugmentConfig,
    SAMConfig,
    ScheduleConfig,
)
from fastpipe.train.config.no_effect import warn_length_without_effect, warn_without_effect
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.optimizers import parameter_groups

SMOOTHED = LossConfig(label_smoothing=0.1, label_smoothing_mixup="composer")
NO_WARMUP = ScheduleConfig(warmup_epochs=0.0, warmup_start=0.1)


@pytest.mark.parametrize(
    ("keys", "explicit", "text"),
    [
        ({"mixup_alpha": 0.2, "batch_size": 1}, "", "batches of one image"),
        ({"cutmix_alpha": 0.2, "batch_size": 1}, "", "batches of one image"),
        ({"randaugment": RandAugmentConfig(space="timm", p=0.0)}, "", "no operation is ever applied"),
        ({"mixup_alpha": 0.2}, "mixup_switch_prob", "not both on"),
        ({"loss": LossConfig(name="cross_entropy")}, "loss.reduction", "belongs to bce"),
        ({"loss": SMOOTHED}, "loss.label_smoothing_mixup", "one of the two is off"),
        ({"schedule": NO_WARMUP}, "schedule.warmup_start", "there is none"),
        ({}, "optimizer.beta2", "belongs to adamw and lamb, and the optimizer is sgd"),
        (
            {"optimizer": OptimizerConfig(weight_decay=0.0)},
            "optimizer.decoupled_weight_decay",
            "decays nothing",
        ),
    ],
)
def test_a_key_without_effect_warns(keys: dict[str, Any], explicit: str, text: str) -> None:
    with pytest.warns(NoEffectWarning, match=text):
        warn_without_effect(TrainConfig(**keys), explicit={explicit})


def test_keys_with_an_effect_are_quiet() -> None:
    config = TrainConfig(mixup_alpha=0.2, cutmix_alpha=1.0, loss=SMOOTHED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_without_effect(
            config, explicit={"mixup_switch_prob", "loss.reduction", "loss.label_smoothing_mixup"}
        )


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"sam": SAMConfig(interval=7)}, r"sam\.interval 7 is longer than the 4 steps"),
        ({"ema": EMAConfig(update_interval=5)}, "makes no average"),
        # Its one update is the first, which copies.
        ({"ema": EMAConfig(update_interval=4)}, "1 updates, and none of them averages"),
        ({"ema": EMAConfig(update_interval=2, reset_during_warmup=True)}, "makes no average"),
    ],
)
def test_a_run_too_short_for_a_method_warns(keys: dict[str, Any], text: str) -> None:
    config = TrainConfig(epochs=2, schedule=ScheduleConfig(warmup_epochs=2.0), **keys)
    with pytest.warns(NoEffectWarning, match=text):
        warn_length_without_effect(config, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_length_without_effect(replace(config, epochs=5), 2)


@pytest.mark.parametrize("copied", [0, 3, 6, 30])
@pytest.mark.parametrize("interval", [1, 2, 5])
def test_averaging_updates_are_those_the_average_makes(copied: int, interval: int) -> None:
    """Counted on the average itself: an update whose result is not a copy of the model."""
    model, ema, averaged = nn.Linear(1, 1, bias=False), EMA(half_life_batches=3, update_interval=interval), 0
    for step in range(1, 18):
        nn.init.constant_(model.weight, float(step))
        updated = ema.after_step(model, step, copy=step - interval <= copied)
        averaged += updated and not torch.equal(ema.shadow["weight"], model.weight)
    assert averaging_updates(17, interval, copied=copied) == averaged


def test_channels_last_without_a_weight_of_four_dimensions_warns() -> None:
    with pytest.warns(NoEffectWarning, match="channels_last moved no weight"):
        to_memory_format(nn.Linear(2, 2), channels_last=True)


def test_decay_that_spares_nothing_warns() -> None:
    with pytest.warns(NoEffectWarning, match="has no effect: Linear"):
        parameter_groups(nn.Linear(2, 2, bias=False), on_norm=False, on_bias=False)


@pytest.mark.parametrize(("limit", "warns"), [("1e9", True), ("1e-3", False)])
def test_clipping_that_never_clipped_warns_after_training(limit: str, warns: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, label in ((s, c) for s in ("train", "val") for c in ("a", "b")):
        (tmp_path / split / label).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / label / f"{number}.png")
    args = ["--recipe", "nvidia_hparams", "--data", str(tmp_path), "--model", "test_resnet", "--epochs", "1"]
    small = ["--train-resolution", "32", "--batch-size", "4", "--num-workers", "0", "--grad-clip", limit]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main([*args, *small, "--output-dir", str(tmp_path / "run")]) == 0
    said = [str(w.message) for w in caught if issubclass(w.category, NoEffectWarning)]
    assert any("grad_clip 1e+09 clipped nothing" in text for text in said) == warns
