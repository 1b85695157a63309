"""`fastpipe-train --list-recipes`: the recipes side by side, read from their files.

The rows are those of Table 1 in MosaicML's ResNet Deep Dive, and the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastpipe.train.config.schema import TrainConfig

Cell = Callable[[TrainConfig], object]


def _resizing(key: str) -> Cell:
    return lambda c: None if c.progressive_resizing is None else getattr(c.progressive_resizing, key)


def _policy(c: TrainConfig) -> object:
    policy = c.randaugment
    return None if policy is None else f"{policy.space} {policy.depth}"


ROWS: Mapping[str, Cell] = {
    "model": lambda c: c.model,
    "epochs": lambda c: c.epochs,
    "learning rate": lambda c: c.optimizer.lr,
    "optimizer": lambda c: c.optimizer.name,
    "decoupled weight decay": lambda c: c.optimizer.decoupled_weight_decay,
    "weight decay": lambda c: c.optimizer.weight_decay,
    "weight decay on norm": lambda c: c.optimizer.weight_decay_on_norm,
    "momentum": lambda c: c.optimizer.momentum,
    "warmup epochs": lambda c: c.schedule.warmup_epochs,
    "decay": lambda c: c.schedule.name,
    "schedule resolution": lambda c: c.schedule.resolution,
    "precision": lambda c: c.precision,
    "channels last": lambda c: c.channels_last,
    "global batch": lambda c: c.batch_size,
    "train resolution": lambda c: c.train_resolution,
    "val resolution": lambda c: c.val_resolution,
    "val resize": lambda c: c.val_resize,
    "loss": lambda c: c.loss.name,
    "blurpool": lambda c: c.blurpool,
    "colout": lambda c: c.colout,
    "cutmix alpha": lambda c: c.cutmix_alpha,
    "ema": lambda c: None if c.ema is None else f"{c.ema.half_life_batches} ba",
    "label smoothing": lambda c: c.loss.label_smoothing,
    "mixup alpha": lambda c: c.mixup_alpha,
    "resizing delay": _resizing("delay_fraction"),
    "resizing initial scale": _resizing("initial_scale"),
    "resizing finetune": _resizing("finetune_fraction"),
    "randaugment": _policy,
    "random erasing": lambda c: c.random_erasing,
    "repeated augmentation": lambda c: c.repeated_augmentation if c.repeated_augmentation > 1 else None,
    "sam rho": lambda c: None if c.sam is None else c.sam.rho,
    "sam interval": lambda c: None if c.sam is None else c.sam.interval,
    "stochastic depth": lambda c: None if c.stochastic_depth is None else c.stochastic_depth.drop_rate,
    "test-time flip": lambda c: c.tta,
}


def _text(value: object) -> str:
    if value is None or value is False or value == 0.0:
        return "-"
    if value is True:
        return "yes"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("cross_entropy", "ce")


def recipe_table(recipes: Mapping[str, TrainConfig]) -> str:
    """Plain text with one line per row and one column per recipe; "-" is off."""
    table = [["", *recipes]]
    table += [[name, *(_text(cell(config)) for config in recipes.values())] for name, cell in ROWS.items()]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in table]
    return "".join(line.rstrip() + "\n" for line in lines)
