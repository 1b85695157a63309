"""A configuration is refused where it is made, in the words of a recipe's keys, and looked at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fastpipe.errors import ArgumentError
from fastpipe.train import TrainConfig, load_recipe
from fastpipe.train.cli import parse
from fastpipe.train.config.fit import fit_to_data
from fastpipe.train.config.groups import (
    EMAConfig,
    LossConfig,
    OptimizerConfig,
    ProgressiveResizingConfig,
    RandAugmentConfig,
    SAMConfig,
    ScheduleConfig,
    StochasticDepthConfig,
)
from fastpipe.train.config.keys import config_to_dict

NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: OptimizerConfig(lr=-1), "optimizer.lr must be above 0. Found: -1"),
        (lambda: OptimizerConfig(lr=NAN), "optimizer.lr must be above 0. Found: nan"),
        (lambda: OptimizerConfig(momentum=1.0), "optimizer.momentum must be in [0, 1). Found: 1.0"),
        (lambda: OptimizerConfig(beta2=1.0), "optimizer.beta2 must be in [0, 1). Found: 1.0"),
        (lambda: OptimizerConfig(weight_decay=-0.1), "optimizer.weight_decay must be in [0, 1). Found: -0.1"),
        (
            lambda: OptimizerConfig(name="lamb"),
            "optimizer.decoupled_weight_decay must be false for lamb, which has its own decay",
        ),
        (
            lambda: OptimizerConfig(name="adam"),  # type: ignore[arg-type]
            "optimizer.name must be one of sgd, adamw, lamb, lars. Found: 'adam'",
        ),
        (lambda: ScheduleConfig(warmup_epochs=-1.0), "schedule.warmup_epochs must be >= 0. Found: -1.0"),
        (lambda: ScheduleConfig(warmup_start=1.5), "schedule.warmup_start must be in [0, 1]. Found: 1.5"),
        (lambda: ScheduleConfig(min_lr=-0.1), "schedule.min_lr must be in [0, optimizer.lr]. Found: -0.1"),
        (lambda: LossConfig(label_smoothing=1.0), "loss.label_smoothing must be in [0, 1). Found: 1.0"),
        (lambda: EMAConfig(half_life_batches=0), "ema.half_life_batches must be at least 1. Found: 0"),
        (lambda: EMAConfig(update_interval=0), "ema.update_interval must be at least 1. Found: 0"),
        (
            lambda: ProgressiveResizingConfig(initial_scale=0.0),
            "progressive_resizing.initial_scale must be in (0, 1]. Found: 0.0",
        ),
        (
            lambda: ProgressiveResizingConfig(delay_fraction=0.7, finetune_fraction=0.5),
            "progressive_resizing.delay_fraction + finetune_fraction must be at most 1. Found: 1.2",
        ),
        (
            lambda: ProgressiveResizingConfig(kind="ffcv", start_epoch=5.0, end_epoch=5.0),
            "progressive_resizing.start_epoch must be at least 0 and below end_epoch (5). Found: 5.0",
        ),
        (
            lambda: ProgressiveResizingConfig(size_increment=6),
            "progressive_resizing.size_increment must be a multiple of 4. Found: 6",
        ),
        (lambda: SAMConfig(rho=0.0), "sam.rho must be above 0. Found: 0.0"),
        (lambda: SAMConfig(interval=0), "sam.interval must be at least 1. Found: 0"),
        (
            lambda: StochasticDepthConfig(drop_rate=1.0),
            "stochastic_depth.drop_rate must be in [0, 1). Found: 1.0",
        ),
        (lambda: RandAugmentConfig(severity=11.0), "randaugment: severity must be in [0, 10]. Found: 11.0"),
        (lambda: RandAugmentConfig(mstd=0.5), "randaugment: mstd is not a setting of space='composer'"),
        (
            lambda: TrainConfig(schedule=ScheduleConfig(min_lr=3.0)),
            "schedule.min_lr must be in [0, optimizer.lr]. Found: 3.0",
        ),
        (
            lambda: TrainConfig(batch_size=6, grad_accumulation=4),
            "batch_size must be divisible by grad_accumulation (4). Found: 6",
        ),
        (
            lambda: TrainConfig(precision="fp16"),  # type: ignore[arg-type]
            "precision must be one of amp, amp_bf16, fp32. Found: 'fp16'",
        ),
        (
            lambda: TrainConfig(blurpool="true"),  # type: ignore[arg-type]
            "blurpool must be one of true, false, ffcv. Found: 'true'",
        ),
    ],
)
def test_a_wrong_value_is_refused_where_it_is_made(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(text)):
        make()


@pytest.mark.parametrize("name", ["mild", "medium", "hot"])
def test_augmentations_by_name_are_those_of_the_recipes_file(name: str) -> None:
    keys = ("randaugment", "colout", "random_erasing", "mixup_alpha", "cutmix_alpha", "mixup_switch_prob")
    recipe = config_to_dict(load_recipe(name))
    # A recipe that differs from all three in every one of these keys, and in the loss.
    asked = config_to_dict(parse(["--recipe", "pytorch_blog", "--augment", name]).config)
    assert {key: asked[key] for key in keys} == {key: recipe[key] for key in keys}
    assert asked["loss"] == config_to_dict(load_recipe("pytorch_blog"))["loss"]


def test_a_command_line_is_looked_at_once_and_its_recipe_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []
    check = TrainConfig.__post_init__

    def counted(config: TrainConfig) -> None:
        seen.append(config)
        check(config)

    monkeypatch.setattr(TrainConfig, "__post_init__", counted)
    asked = parse(["--recipe", "hot", "--augment", "medium", "--optimizer.lr", "0.5"])
    assert [config.optimizer.lr for config in seen] == [2.048, 0.5]
    seen.clear()
    fitted = fit_to_data(asked.config, 5000, explicit=asked.explicit, recipe_batch_size=2048)
    assert seen == [fitted.config]
