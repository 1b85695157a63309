"""Checks that the values of a configuration make sense together. Checks that need the data are elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from fastpipe.errors import ArgumentError
from fastpipe.train.interval import parse_interval

if TYPE_CHECKING:
    from fastpipe.train.config.schema import TrainConfig


def check_config(config: TrainConfig) -> None:
    """Raise ArgumentError for the first value outside the groups that is wrong for every data set."""
    check_choices(config)
    check_texts(config)
    for check in (_check_counts, _check_sizes, _check_shares, _check_together, _check_start):
        check(config)


def check_texts(config: Any, prefix: str = "") -> None:
    """Raise ArgumentError for an empty text: a variable of a script was not set, and its path is not."""
    for name, value in vars(config).items():
        if isinstance(value, str) and not value.strip():
            raise ArgumentError(
                f"{prefix}{name.replace('_', '-') if prefix else name} must not be empty. Found: {value!r}. "
                "Leave it out, or check the variable that it comes from"
            )


def check_arguments(args: Sequence[str]) -> None:
    """Raise ArgumentError for an empty value on a command line, and name its option."""
    for before, arg in zip(["", *args], args, strict=False):
        name, sign, value = arg.partition("=")
        given = name.startswith("--") and sign
        if not (value if given else arg):
            named = name if given else before if before.startswith("--") else "an argument"
            raise ArgumentError(
                f"{named} must not be empty. Found: ''. Leave it out, or check the "
                "variable that it comes from"
            )


def check_choices(config: Any, prefix: str = "") -> None:
    """Raise ArgumentError for a text that its field does not take; in a script no parser has checked it."""
    for name, (words, allowed) in _choices_of(type(config)).items():
        value = getattr(config, name)
        require(not isinstance(value, str) or value in words, prefix + name, allowed, value)


def _choices_of(cls: type[Any]) -> dict[str, tuple[tuple[str, ...], str]]:
    """For each field with a list of allowed words: those words, and the same as part of a sentence."""
    found = {}
    for name, hint in get_type_hints(cls).items():
        members = (hint,) if get_origin(hint) is Literal else get_args(hint)
        words = tuple(word for one in members if get_origin(one) is Literal for word in get_args(one))
        others = [text for kind, text in ((bool, "true, false"), (int, "a number")) if kind in members]
        allowed = ", ".join([*others, *words])
        if words:
            found[name] = words, f"one of {allowed}" if ", " in allowed else allowed
    return found


def check_world_size(config: TrainConfig, world_size: int) -> None:
    """Raise ArgumentError unless every process gets the same number of images in every micro-batch."""
    parts = world_size * config.grad_accumulation
    lower = config.batch_size // parts * parts
    nearest = f"{lower} or {lower + parts}" if lower else f"{parts}"
    require(
        config.batch_size % parts == 0,
        "batch_size",
        f"divisible by processes x grad_accumulation ({world_size} x {config.grad_accumulation} = "
        f"{parts}), such as --batch-size {nearest}",
        config.batch_size,
    )


def check_on_error(config: TrainConfig, world_size: int) -> None:
    """Raise ArgumentError if skipping images would give the ranks batches of different sizes."""
    if config.on_error == "skip" and world_size > 1:
        raise ArgumentError(
            f"on_error must be raise or replace with several processes ({world_size} here), since skip makes "
            "the batches of one of them smaller. Found: 'skip'. Give --on-error replace"
        )


def require(ok: bool, name: str, allowed: str, found: object) -> None:
    """Raise ArgumentError unless `ok`: what `name` must be, and what was found."""
    if not ok:
        raise ArgumentError(f"{name} must be {allowed}. Found: {found!r}")


def _check_counts(c: TrainConfig) -> None:
    require(c.epochs >= 1, "epochs", "at least 1", c.epochs)
    require(c.batch_size >= 1, "batch_size", "at least 1", c.batch_size)
    require(c.num_workers == "auto" or c.num_workers >= 0, "num_workers", "auto or >= 0", c.num_workers)
    parse_interval(c.checkpoint_interval)
    require(c.skip_nonfinite >= 0, "skip_nonfinite", "0 (stop at the first) or above", c.skip_nonfinite)
    require(c.schedule_scale > 0.0, "schedule_scale", "above 0", c.schedule_scale)
    require(c.repeated_augmentation >= 1, "repeated_augmentation", "at least 1", c.repeated_augmentation)
    require(c.grad_clip >= 0.0, "grad_clip", "0 (off) or above", c.grad_clip)
    patience = c.early_stopping
    require(patience is None or patience >= 1, "early_stopping", "null (off) or at least 1 epoch", patience)
    require(c.grad_accumulation >= 1, "grad_accumulation", "at least 1", c.grad_accumulation)


def _check_sizes(c: TrainConfig) -> None:
    for name, size in (("train_resolution", c.train_resolution), ("val_resolution", c.val_resolution)):
        nearest = max(32, round_to_multiple(size, 4))
        require(
            size >= 32 and size % 4 == 0,
            name,
            f"a multiple of 4 and at least 32 pixels (the nearest is {nearest})",
            size,
        )
    require(
        c.val_resize >= c.val_resolution,
        "val_resize",
        f">= val_resolution ({c.val_resolution})",
        c.val_resize,
    )


def _check_shares(c: TrainConfig) -> None:
    require(0.0 < c.max_bad <= 1.0, "max_bad", "a share in (0, 1]", c.max_bad)
    require(0.0 < c.held_out < 1.0, "held_out", "a share above 0 and below 1", c.held_out)
    require(0.0 <= c.colout < 1.0, "colout", "a share in [0, 1)", c.colout)
    for name in ("random_erasing", "mixup_switch_prob"):
        require(0.0 <= getattr(c, name) <= 1.0, name, "a probability in [0, 1]", getattr(c, name))
    for name in ("mixup_alpha", "cutmix_alpha"):
        alpha = getattr(c, name)
        require(0.0 <= alpha < math.inf, name, "0 (off) or above, and finite", alpha)


def _check_together(c: TrainConfig) -> None:
    require(
        c.schedule.min_lr <= c.optimizer.lr,
        "schedule.min_lr",
        "in [0, optimizer.lr]",
        c.schedule.min_lr,
    )
    require(
        c.batch_size % c.grad_accumulation == 0,
        "batch_size",
        f"divisible by grad_accumulation ({c.grad_accumulation})",
        c.batch_size,
    )


def _check_start(c: TrainConfig) -> None:
    architecture, tagged, tag = c.model.partition(".")
    if tagged and not tag:
        raise ArgumentError(f"model {c.model!r} ends before its tag. Give --model {architecture}")
    if tagged and (isinstance(c.pretrained, str) or c.init_from is not None):
        key = "init_from" if c.init_from is not None else "pretrained"
        raise ArgumentError(
            f"model {c.model!r} names weights of its own ({tag!r}), and {key} names others: "
            f"{getattr(c, key)!r}. Leave out one of the two, as in --model {architecture}"
        )
    if c.pretrained and c.init_from is not None:
        raise ArgumentError(
            f"pretrained ({c.pretrained!r}) and init_from ({c.init_from!r}) both name the weights to start "
            "from. Leave out one of the two"
        )
    whole = c.freeze == "backbone" or 0 < c.freeze < 1 or (c.freeze >= 0 and isinstance(c.freeze, int))
    require(whole, "freeze", "backbone, a number of layers (0: off), or a share in (0, 1)", c.freeze)
    require(0 <= c.freeze_epochs < c.epochs, "freeze_epochs", f"in [0, epochs ({c.epochs}))", c.freeze_epochs)
    if c.freeze and not (c.pretrained or tagged or c.init_from is not None):
        raise ArgumentError(
            f"freeze must be 0 for a model that starts from random weights, which would stay random. "
            f"Found: {c.freeze!r}. Give --pretrained or --init-from"
        )
    require(all(0.0 <= m <= 1.0 for m in c.mean), "mean", "three numbers in [0, 1]", c.mean)
    require(all(0.0 < s <= 1.0 for s in c.std), "std", "three numbers in (0, 1]", c.std)


def round_to_multiple(value: float, multiple: int) -> int:
    """The nearest multiple of `multiple`, halves upwards."""
    return int(value / multiple + 0.5) * multiple
