"""What a run is, as frozen values: the keys of a recipe file and of the command line.

A recipe is data: `recipes/*.yaml` fills these classes, the command line overrides single keys. Values are
checked once, here; whatever depends on the data set is decided later, in `fit.py`.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from fastpipe.errors import ArgumentError
from fastpipe.train.augment import RandAugmentConfig, mix_spec, policy_spec

__all__ = [
    "EMAConfig",
    "LossConfig",
    "OptimizerConfig",
    "ProgressiveResizingConfig",
    "ScheduleConfig",
    "TrainConfig",
    "check_keys",
    "config_from_dict",
    "config_to_dict",
    "flat_keys",
    "round_to_multiple",
    "scale_schedule",
    "suggest",
]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move."""

    name: Literal["sgd"] = "sgd"
    """sgd: with momentum, not Nesterov."""
    lr: float = 2.048
    """The peak of the schedule, for `batch_size`."""
    momentum: float = 0.875
    weight_decay: float = 5e-4
    decoupled_weight_decay: bool = True
    """true: weights *= 1 - (lr / peak) * weight_decay. false: weight_decay * weights joins the gradient."""
    weight_decay_on_norm: bool = True
    """false: BatchNorm weights and all biases are not decayed."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: float = 8.0
    """Linear from 0. Not touched by schedule_scale."""
    resolution: Literal["step"] = "step"
    min_lr: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    name: Literal["bce", "cross_entropy"] = "bce"
    """bce: binary cross-entropy, summed over classes, divided by the batch."""
    bias_init: bool = True
    """Start the classifier's bias at -log(classes)."""
    label_smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EMAConfig:
    """The averaged weights used for evaluation."""

    half_life_batches: int = 100
    update_interval: int = 20


@dataclass(frozen=True, kw_only=True)
class ProgressiveResizingConfig:
    """Small images first."""

    kind: Literal["composer"] = "composer"
    where: Literal["decoder"] = "decoder"
    """decoder: one resize, straight from the crop to the step's size."""
    initial_scale: float = 0.5
    delay_fraction: float = 0.4
    finetune_fraction: float = 0.2
    size_increment: int = 4


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. Built from a recipe file; see `config_from_dict`."""

    recipe: str = "custom"
    data: str | None = None
    """demo, a folder, or the name of a data set of torchvision (cifar10, imagenette, ...)."""
    model: str = "resnet50"
    """A name that timm.create_model knows."""
    epochs: int = 36
    batch_size: int = 2048
    """Of all processes together."""
    train_resolution: int = 176
    val_resolution: int = 224
    val_resize: int = 232
    """The shorter side before the centre crop of val_resolution."""
    precision: Literal["amp", "fp32"] = "amp"
    """amp: float16 with a loss scaler on CUDA, float32 on the CPU."""
    channels_last: bool = True
    seed: int = 42
    init: Literal["composer", "model"] = "composer"
    """composer: Kaiming normal and BatchNorm weights U(0, 1). model: as timm made them."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    mixup_alpha: float = 0.0
    """The partner's weight is min(l, 1 - l), l ~ Beta(alpha, alpha), one per batch; 0 is off."""
    cutmix_alpha: float = 0.0
    """Likewise for one box per batch."""
    mixup_switch_prob: float = 0.5
    """With both on: the probability of CutMix, drawn per batch."""
    randaugment: RandAugmentConfig | None = None
    colout: float = 0.0
    """The share of rows, and of columns, that every batch loses: 0.05 of 176 pixels leaves 167."""
    random_erasing: float = 0.0
    """The probability of one erased rectangle per image, after normalisation."""
    blurpool: bool = False
    ema: EMAConfig | None = None
    progressive_resizing: ProgressiveResizingConfig | None = None
    backend: str = "auto"
    """auto, or the loader backend that must be used."""
    num_workers: int | Literal["auto"] = "auto"
    """Decoding processes; auto: as many as there are usable CPUs, at most 8."""
    output_dir: str | None = None
    """The run folder; default: runs/<recipe>-<date>-<n>."""
    fit_to_data: bool | Literal["auto"] = "auto"
    """Shrink batch, rate, warmup and EMA to a small data set; auto: when an epoch has fewer than 20 steps."""
    schedule_scale: float = 1.0
    """Multiplies epochs (truncated to a whole number); the warmup keeps its length."""

    def __post_init__(self) -> None:
        for check in (_check_counts, _check_sizes, _check_fractions, _check_augmentations):
            check(self)


def _require(ok: bool, name: str, allowed: str, found: object) -> None:
    if not ok:
        raise ArgumentError(f"{name} must be {allowed}. Found: {found!r}")


def _check_counts(c: TrainConfig) -> None:
    _require(c.epochs >= 1, "epochs", "at least 1", c.epochs)
    _require(c.batch_size >= 1, "batch_size", "at least 1", c.batch_size)
    _require(c.num_workers == "auto" or int(c.num_workers) >= 0, "num_workers", "auto or >= 0", c.num_workers)
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


def round_to_multiple(value: float, multiple: int) -> int:
    """The nearest multiple of `multiple`, halves upwards."""
    return int(value / multiple + 0.5) * multiple


def scale_schedule(config: TrainConfig) -> TrainConfig:
    """The run with `schedule_scale` applied: epochs times the scale, truncated; the scale becomes 1."""
    # The small addend undoes binary rounding: int(90 * 0.7) would be 62.
    epochs = int(config.epochs * config.schedule_scale + 1e-9)
    _require(
        epochs >= 1, "schedule_scale", f"at least {1 / config.epochs:.3g} for 1 epoch", config.schedule_scale
    )
    return replace(config, epochs=epochs, schedule_scale=1.0)


def suggest(wrong: str, known: Iterable[str], *, prefix: str = "") -> str:
    """A sentence that names the nearest known word, or all of them."""
    names = sorted(known)
    near = get_close_matches(wrong, names, n=1, cutoff=0.5)
    if not near:
        by_leaf = {name.rpartition(".")[2]: name for name in names}
        near = [
            by_leaf[leaf] for leaf in get_close_matches(wrong.rpartition(".")[2], by_leaf, n=1, cutoff=0.6)
        ]
    return f"Did you mean '{prefix}{near[0]}'?" if near else f"Known: {', '.join(names)}"


def _nested(annotation: Any) -> type[Any] | None:
    """The dataclass inside `X` or `X | None`, if there is one."""
    members = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((m for m in members if is_dataclass(m) and isinstance(m, type)), None)


def flat_keys(cls: type[Any] = TrainConfig, prefix: str = "") -> list[str]:
    """Every key in dotted form, groups before their members."""
    hints = typing.get_type_hints(cls)
    keys: list[str] = []
    for f in fields(cls):
        keys.append(prefix + f.name)
        inner = _nested(hints[f.name])
        if inner is not None:
            keys += flat_keys(inner, f"{prefix}{f.name}.")
    return keys


def check_keys(
    values: Mapping[str, Any], *, where: str, cls: type[Any] = TrainConfig, prefix: str = ""
) -> None:
    """Raise ArgumentError for a key that `cls` does not have, naming the nearest one it has."""
    hints = typing.get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            advice = suggest(f"{prefix}{key}", [prefix + name for name in hints])
            raise ArgumentError(f"unknown key {prefix + str(key)!r} in {where}. {advice}")
        inner = _nested(hints[key])
        if inner is not None and isinstance(value, Mapping):
            check_keys(value, where=where, cls=inner, prefix=f"{prefix}{key}.")


def config_from_dict(values: Mapping[str, Any], cls: type[Any] = TrainConfig) -> Any:
    """A `cls` from nested values whose keys and types were checked."""
    hints = typing.get_type_hints(cls)
    built: dict[str, Any] = {}
    for key, value in values.items():
        inner = _nested(hints[key])
        built[key] = (
            config_from_dict(value, inner) if inner is not None and isinstance(value, Mapping) else value
        )
    return cls(**built)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values in the order of the fields, ready for YAML and for a checkpoint."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return {k: config_to_dict(v) if is_dataclass(v) else v for k, v in values.items()}
