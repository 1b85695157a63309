"""Adapts a recipe made for ImageNet to a small data set (`fit_to_data`).

    batch      the largest power of two, at most the recipe's, that leaves at least 30 steps an epoch
    lr         lr * batch / the recipe's batch (the same for min_lr)
    warmup     min(the recipe's, 10 % of training)
    EMA        half-life min(the recipe's, 5 % of the steps), interval half-life / 5

Keys set by the user are left alone. Every change is returned, so that it can be shown and saved.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.config.checks import round_to_multiple
from fastpipe.train.config.groups import EMAConfig, ScheduleConfig
from fastpipe.train.config.keys import (
    config_to_dict,
    differing,
)
from fastpipe.train.config.schema import TrainConfig

_FEW_STEPS = 20
_ENOUGH_STEPS = 30
_WARMUP_SHARE = 0.1
_HALF_LIFE_SHARE = 0.05
# BatchNorm cannot normalise a batch of one 1x1 map.
_SMALLEST_BATCH = 2


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The configuration to run, and what was changed: key -> (before, after).

    of_task: what was changed before, since labels are not one class an image.
    """

    config: TrainConfig
    changes: dict[str, tuple[Any, Any]]
    of_task: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def fitted_batch_size(num_images: int, largest: int) -> int:
    """The largest power of two <= `largest` with 30 full batches in `num_images`; at least 2."""
    batch = _SMALLEST_BATCH
    while batch * 2 <= largest and num_images // (batch * 2) >= _ENOUGH_STEPS:
        batch *= 2
    return batch


def fit_to_data(
    config: TrainConfig,
    num_images: int,
    *,
    explicit: Collection[str] = (),
    recipe_batch_size: int | None = None,
) -> Fitted:
    """`config` fitted to `num_images` training images; `explicit` are dotted keys set by the user.

    `recipe_batch_size` is the batch that the learning rate was made for (default: the configuration's own).
    Raises ArgumentError for an explicit warmup that is longer than training. A recipe's own warmup is cut to
    10 % of training instead, even if nothing else is fitted.
    """
    warmup = config.schedule.warmup_epochs
    if warmup > config.epochs and "schedule.warmup_epochs" in explicit:
        raise ArgumentError(
            f"schedule.warmup_epochs must not be longer than training ({config.epochs} epochs). "
            f"Found: {warmup:g}. Lower it, or train longer"
        )
    recipe_batch = recipe_batch_size or config.batch_size
    # Also by the recipe's batch: a smaller one given by the user must not switch off the scaled rate.
    small = num_images // max(recipe_batch, config.batch_size) < _FEW_STEPS
    if small if config.fit_to_data == "auto" else config.fit_to_data:
        changed = _fitting(config, num_images, explicit, recipe_batch)
    elif warmup > config.epochs:
        changed = {"schedule": _with_warmup(config.schedule, _WARMUP_SHARE * config.epochs)}
    else:
        changed = {}
    # One replacement, so that the whole configuration is checked once.
    fitted = replace(config, fit_to_data=False, **changed)
    told = {**config_to_dict(fitted), "fit_to_data": config.fit_to_data}
    return Fitted(config=fitted, changes=differing(config_to_dict(config), told))


def _fitting(
    config: TrainConfig, num_images: int, explicit: Collection[str], recipe_batch: int
) -> dict[str, Any]:
    """The keys that fitting changes, with their new values."""
    batch, schedule, optimizer = config.batch_size, config.schedule, config.optimizer
    if "batch_size" not in explicit:
        batch = fitted_batch_size(num_images, recipe_batch)
    if "optimizer.lr" not in explicit:
        ratio = batch / recipe_batch
        optimizer = replace(optimizer, lr=optimizer.lr * ratio)
        schedule = replace(schedule, min_lr=schedule.min_lr * ratio)
    if "schedule.warmup_epochs" not in explicit:
        schedule = _with_warmup(schedule, min(schedule.warmup_epochs, _WARMUP_SHARE * config.epochs))
    ema = config.ema and _fitted_ema(config.ema, num_images // batch * config.epochs, explicit)
    return {"batch_size": batch, "optimizer": optimizer, "schedule": schedule, "ema": ema}


def _with_warmup(schedule: ScheduleConfig, warmup_epochs: float) -> ScheduleConfig:
    # Rounded, so that the printed value is 0.8 and not 0.8000000000000000444.
    return replace(schedule, warmup_epochs=round(warmup_epochs, 6))


def _fitted_ema(ema: EMAConfig, total_steps: int, explicit: Collection[str]) -> EMAConfig:
    if "ema.half_life_batches" not in explicit:
        half_life = min(ema.half_life_batches, max(1, int(_HALF_LIFE_SHARE * total_steps)))
        ema = replace(ema, half_life_batches=half_life)
    if "ema.update_interval" not in explicit:
        ema = replace(ema, update_interval=max(1, ema.half_life_batches // 5))
    return ema


def follow_train_resolution(
    values: dict[str, Any], recipe: TrainConfig, explicit: Collection[str]
) -> dict[str, Any]:
    """`values` with validation sizes in the recipe's ratio to the training size.

    Sizes that the user did not set keep the recipe's ratios (mild: 224 / 176, then 232 / 224), rounded to the
    nearest multiple of 4: 64 pixels of training give 80 and 84.
    """
    size, resize = values["val_resolution"], values["val_resize"]
    if "val_resolution" not in explicit and values["train_resolution"] != recipe.train_resolution:
        size = _near(values["train_resolution"] * recipe.val_resolution / recipe.train_resolution)
    if "val_resize" not in explicit and size != recipe.val_resolution:
        resize = max(size, _near(size * recipe.val_resize / recipe.val_resolution))
    return {**values, "val_resolution": size, "val_resize": resize}


def follow_epochs(values: dict[str, Any], recipe: TrainConfig, explicit: Collection[str]) -> dict[str, Any]:
    """`values` with a ramp of sizes given in epochs at the recipe's share of training.

    FFCV's own shorter configurations also keep the shares: 0.69 to 0.74 and 0.81 to 0.86 of training.
    """
    ramp = values["progressive_resizing"]
    if ramp is None or values["epochs"] == recipe.epochs:
        return values
    scaled = {
        key: round(ramp[key] * values["epochs"] / recipe.epochs, 6)
        for key in ("start_epoch", "end_epoch")
        if f"progressive_resizing.{key}" not in explicit
    }
    return {**values, "progressive_resizing": {**ramp, **scaled}}


def _near(size: float) -> int:
    return max(32, round_to_multiple(size, 4))
