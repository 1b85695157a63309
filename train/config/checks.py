"""Whether the values of a configuration make sense together. What depends on the data is not checked here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastpipe.errors import ArgumentError
from fastpipe.train.augment import mix_spec, policy_spec
from fastpipe.train.interval import parse_interval

if TYPE_CHECKING:
    from fastpipe.train.config.schema import TrainConfig

__all__ = ["check_config", "check_from_scratch", "check_on_error", "check_world_size", "round_to_multiple"]


def check_config(config: TrainConfig) -> None:
    """Raise ArgumentError for the first value that no data set could make right."""
    for check in (_check_counts, _check_sizes, _check_fractions, _check_augmentations, _check_methods):
        check(config)


def check_from_scratch(config: TrainConfig) -> None:
    """Raise ArgumentError for a model with a tag of pretrained weights: training starts without any.

    Apart from `check_config`, since a checkpoint of an earlier version may hold such a name.
    """
    architecture, tagged, tag = config.model.partition(".")
    if tagged:
        raise ArgumentError(
            f"model {config.model!r} names pretrained weights ({tag!r}), and they cannot be loaded: training "
            f"starts from scratch. Give --model {architecture}"
        )


def check_world_size(config: TrainConfig, world_size: int) -> None:
    """Raise ArgumentError unless every process gets the same number of images in every micro-batch."""
    parts = world_size * config.grad_accumulation
    lower = config.batch_size // parts * parts
    nearest = f"{lower} or {lower + parts}" if lower else f"{parts}"
    _require(
        config.batch_size % parts == 0,
        "batch_size",
        f"divisible by processes x grad_accumulation ({world_size} x {config.grad_accumulation} = "
        f"{parts}), such as --batch-size {nearest}",
        config.batch_size,
    )


def check_on_error(config: TrainConfig, world_size: int) -> None:
    """Raise ArgumentError where images cannot be skipped: batches of different size on the ranks."""
    if config.on_error == "skip" and world_size > 1:
        raise ArgumentError(
            f"on_error must be raise or replace in several processes ({world_size} here), since skip makes "
            "the batches of one of them smaller. Found: 'skip'. Give --on-error replace"
        )


def _require(ok: bool, name: str, allowed: str, found: object) -> None:
    if not ok:
        raise ArgumentError(f"{name} must be {allowed}. Found: {found!r}")


def _check_counts(c: TrainConfig) -> None:
    _require(c.epochs >= 1, "epochs", "at least 1", c.epochs)
    _require(c.batch_size >= 1, "batch_size", "at least 1", c.batch_size)
    _require(c.num_workers == "auto" or int(c.num_workers) >= 0, "num_workers", "auto or >= 0", c.num_workers)
    parse_interval(c.checkpoint_interval)
    _require(c.skip_nonfinite >= 0, "skip_nonfinite", "0 (stop at once) or above", c.skip_nonfinite)
    _require(c.schedule_scale > 0.0, "schedule_scale", "above 0", c.schedule_scale)
    _require(c.optimizer.lr > 0.0, "optimizer.lr", "above 0", c.optimizer.lr)
    _require(0.0 <= c.optimizer.momentum < 1.0, "optimizer.momentum", "in [0, 1)", c.optimizer.momentum)
    _require(
        0.0 <= c.optimizer.weight_decay < 1.0, "optimizer.weight_decay", "in [0, 1)", c.optimizer.weight_decay
    )
    _require(c.schedule.warmup_epochs >= 0.0, "schedule.warmup_epochs", ">= 0", c.schedule.warmup_epochs)
    _require(
        0.0 <= c.schedule.min_lr <= c.optimizer.lr,
        "schedule.min_lr",
        "in [0, optimizer.lr]",
        c.schedule.min_lr,
    )
    if c.ema is not None:
        _require(c.ema.half_life_batches >= 1, "ema.half_life_batches", "at least 1", c.ema.half_life_batches)
        _require(c.ema.update_interval >= 1, "ema.update_interval", "at least 1", c.ema.update_interval)


def _check_sizes(c: TrainConfig) -> None:
    for name, size in (("train_resolution", c.train_resolution), ("val_resolution", c.val_resolution)):
        nearest = max(32, round_to_multiple(size, 4))
        _require(
            size >= 32 and size % 4 == 0,
            name,
            f"a multiple of 4 and at least 32 pixels (the nearest is {nearest})",
            size,
        )
    _require(
        c.val_resize >= c.val_resolution,
        "val_resize",
        f">= val_resolution ({c.val_resolution})",
        c.val_resize,
    )


def _check_fractions(c: TrainConfig) -> None:
    _require(0.0 < c.max_bad <= 1.0, "max_bad", "a share in (0, 1]", c.max_bad)
    _require(0.0 < c.held_out < 1.0, "held_out", "a share above 0 and below 1", c.held_out)
    _require(0.0 <= c.loss.label_smoothing < 1.0, "loss.label_smoothing", "in [0, 1)", c.loss.label_smoothing)
    p = c.progressive_resizing
    if p is None:
        return
    name = "progressive_resizing"
    _require(0.0 < p.initial_scale <= 1.0, f"{name}.initial_scale", "in (0, 1]", p.initial_scale)
    _require(0.0 <= p.delay_fraction <= 1.0, f"{name}.delay_fraction", "in [0, 1]", p.delay_fraction)
    _require(0.0 <= p.finetune_fraction <= 1.0, f"{name}.finetune_fraction", "in [0, 1]", p.finetune_fraction)
    _require(
        p.delay_fraction + p.finetune_fraction <= 1.0,
        f"{name}.delay_fraction + finetune_fraction",
        "at most 1",
        p.delay_fraction + p.finetune_fraction,
    )
    if p.kind == "ffcv":
        _require(p.where == "decoder", f"{name}.where", "decoder for kind ffcv, which resizes there", p.where)
        _require(
            0.0 <= p.start_epoch < p.end_epoch,
            f"{name}.start_epoch",
            f"at least 0 and below end_epoch ({p.end_epoch:g})",
            p.start_epoch,
        )
    _require(
        p.size_increment >= 4 and p.size_increment % 4 == 0,
        f"{name}.size_increment",
        "a multiple of 4",
        p.size_increment,
    )


def _check_augmentations(c: TrainConfig) -> None:
    _require(0.0 <= c.colout < 1.0, "colout", "a share in [0, 1)", c.colout)
    for name in ("random_erasing", "mixup_switch_prob"):
        _require(0.0 <= getattr(c, name) <= 1.0, name, "a probability in [0, 1]", getattr(c, name))
    for name in ("mixup_alpha", "cutmix_alpha"):
        alpha = getattr(c, name)
        _require(0.0 <= alpha < math.inf, name, "0 (off) or above, and finite", alpha)
    mix_spec(c.mixup_alpha, c.cutmix_alpha, c.mixup_switch_prob)
    if c.randaugment is not None:
        policy_spec(c.randaugment)


def _check_methods(c: TrainConfig) -> None:
    _require(
        0.0 <= c.schedule.warmup_start <= 1.0, "schedule.warmup_start", "in [0, 1]", c.schedule.warmup_start
    )
    _require(c.repeated_augmentation >= 1, "repeated_augmentation", "at least 1", c.repeated_augmentation)
    _require(c.grad_clip >= 0.0, "grad_clip", "0 (off) or above", c.grad_clip)
    _require(c.grad_accumulation >= 1, "grad_accumulation", "at least 1", c.grad_accumulation)
    _require(
        c.batch_size % c.grad_accumulation == 0,
        "batch_size",
        f"divisible by grad_accumulation ({c.grad_accumulation})",
        c.batch_size,
    )
    _require(
        c.optimizer.name == "sgd" or not c.optimizer.decoupled_weight_decay,
        "optimizer.decoupled_weight_decay",
        f"false for {c.optimizer.name}, which has a decay of its own",
        c.optimizer.decoupled_weight_decay,
    )
    if c.sam is not None:
        _require(c.sam.rho > 0.0, "sam.rho", "above 0", c.sam.rho)
        _require(c.sam.interval >= 1, "sam.interval", "at least 1", c.sam.interval)
    if c.stochastic_depth is not None:
        rate = c.stochastic_depth.drop_rate
        _require(0.0 <= rate < 1.0, "stochastic_depth.drop_rate", "in [0, 1)", rate)


def round_to_multiple(value: float, multiple: int) -> int:
    """The nearest multiple of `multiple`, halves upwards."""
    return int(value / multiple + 0.5) * multiple
