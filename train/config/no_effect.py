"""Settings without effect: a NoEffectWarning for each, before the first step if possible.

Settings that depend on the model (blurpool, stochastic_depth, init, loss.bias_init, channels_last, decay)
warn when they are applied. `data.py` warns of image sizes that never change.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator

from fastpipe.errors import NoEffectWarning
from fastpipe.train.algorithms.ema import averaging_updates
from fastpipe.train.config.schema import TrainConfig


def warn_without_effect(config: TrainConfig, *, explicit: Collection[str] = ()) -> None:
    """Warn of each key that has no effect given the others; `explicit` holds the keys set by the user."""
    for message in (*_augmentations(config), *_explicit(config, explicit)):
        warnings.warn(message, NoEffectWarning, stacklevel=3)


def warn_length_without_effect(config: TrainConfig, steps_per_epoch: int) -> None:
    """Warn of each method that never acts in a run of this length."""
    steps = config.epochs * steps_per_epoch
    if config.early_stopping is not None and config.early_stopping >= config.epochs - 1:
        warnings.warn(
            f"early_stopping {config.early_stopping} stops nothing in {config.epochs} epochs",
            NoEffectWarning,
            stacklevel=3,
        )
    if config.sam is not None and config.sam.interval > steps:
        warnings.warn(
            f"sam makes no second pass: sam.interval {config.sam.interval} is longer than the {steps} steps "
            "of training",
            NoEffectWarning,
            stacklevel=3,
        )
    ema = config.ema
    if ema is None:
        return
    copied = round(config.schedule.warmup_epochs * steps_per_epoch) if ema.reset_during_warmup else 0
    if not averaging_updates(steps, ema.update_interval, copied=copied):
        warnings.warn(
            f"ema makes no average: with ema.update_interval {ema.update_interval} the {steps} steps of "
            f"training have {steps // ema.update_interval} updates, and none of them averages (the first and "
            "those of a warmup with ema.reset_during_warmup, copy)",
            NoEffectWarning,
            stacklevel=3,
        )


def warn_clipping_without_effect(config: TrainConfig, largest: float) -> None:
    """Warn of clipping that clipped nothing; `largest` is the largest norm of the gradients in the run."""
    if config.grad_clip and largest <= config.grad_clip:
        warnings.warn(
            f"grad_clip {config.grad_clip:g} clipped nothing: the largest norm of the gradients was "
            f"{largest:.4g}",
            NoEffectWarning,
            stacklevel=3,
        )


def _augmentations(c: TrainConfig) -> Iterator[str]:
    if (c.mixup_alpha or c.cutmix_alpha) and c.batch_size == 1:
        yield "mixup_alpha and cutmix_alpha mix nothing in batches of one image"
    if c.randaugment is not None and c.randaugment.p == 0.0:
        yield "randaugment.p is 0: no operation is ever applied"


def _explicit(c: TrainConfig, explicit: Collection[str]) -> Iterator[str]:
    mixed = bool(c.mixup_alpha or c.cutmix_alpha)
    idle = {
        "mixup_switch_prob": (
            not (c.mixup_alpha and c.cutmix_alpha),
            "chooses between MixUp and CutMix, which are not both on",
        ),
        "loss.reduction": (c.loss.name != "bce", f"belongs to bce, and the loss is {c.loss.name}"),
        "loss.label_smoothing_mixup": (
            not (mixed and c.loss.label_smoothing),
            "needs both smoothed and mixed labels, and one of the two is off",
        ),
        "max_bad": (c.on_error == "raise", "limits what on_error skips or replaces, and on_error is raise"),
        "schedule.warmup_start": (c.schedule.warmup_epochs == 0.0, "starts a warmup, and there is none"),
        "optimizer.beta2": (
            c.optimizer.name not in ("adamw", "lamb"),
            f"belongs to adamw and lamb, and the optimizer is {c.optimizer.name}",
        ),
        "freeze_epochs": (not c.freeze, "ends the freezing of layers, and freeze is 0"),
        "optimizer.layer_decay": (
            c.freeze == "backbone" and not c.freeze_epochs,
            "lowers the rates of layers below the classifier, and freeze is backbone",
        ),
        "optimizer.decoupled_weight_decay": (
            c.optimizer.weight_decay == 0.0,
            "decays nothing: the decay is 0",
        ),
    }
    for key, (is_idle, why) in idle.items():
        if is_idle and key in explicit:
            yield f"{key} {why}"
