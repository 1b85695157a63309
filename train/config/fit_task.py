"""Adapts a recipe made for one class an image to labels of another kind, and refuses what has no meaning.

Multi-label: the loss is bce; labels are not smoothed, since a label is no share of one whole; the bias does
not start at -log(labels), which assumes one class an image. Regression: the loss is mse, or l1.

Keys set by the user are never changed: they are refused. Every change is returned, so that it can be shown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.config.fit import Fitted
from fastpipe.train.config.groups import Task
from fastpipe.train.config.keys import config_to_dict, differing
from fastpipe.train.config.schema import TrainConfig

_LOSSES: dict[Task, tuple[str, ...]] = {
    "classes": ("bce", "cross_entropy"),
    "multi-label": ("bce",),
    "regression": ("mse", "l1"),
}
_ONLY_CLASSES = {"label_smoothing": 0.0, "label_smoothing_mixup": "both", "bias_init": False}


def fit_to_task(config: TrainConfig, task: Task, *, explicit: Collection[str] = ()) -> Fitted:
    """`config` with a loss for `task`; `explicit` are dotted keys set by the user.

    Raises ArgumentError for a key of theirs that has no meaning for the task, and for a loss of numbers where
    labels are classes, since a recipe has two losses for classes.
    """
    loss, allowed = config.loss, _LOSSES[task]
    changed: dict[str, Any] = {}
    if loss.name not in allowed:
        if task == "classes" or "loss.name" in explicit:
            raise ArgumentError(
                f"loss.name must be {' or '.join(allowed)} where labels are {task}. Found: {loss.name!r}. "
                f"Give --loss.name {allowed[0]}, or --task if the labels are something else"
            )
        changed["name"] = allowed[0]
    if task != "classes":
        for key, off in _ONLY_CLASSES.items():
            value = getattr(loss, key)
            if value != off and f"loss.{key}" in explicit:
                raise ArgumentError(
                    f"loss.{key} must be {off} where labels are {task}, since it acts on one class an image. "
                    f"Found: {value!r}"
                )
            changed[key] = off
    fitted = replace(config, loss=replace(loss, **changed)) if changed else config
    return Fitted(config=fitted, changes=differing(config_to_dict(config), config_to_dict(fitted)))
