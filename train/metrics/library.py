"""Metrics that torchmetrics computes, from the outputs and labels of a whole split: the one door to it.

Everything is computed at once from each image once: torchmetrics' own states would be synchronised over the
ranks a batch at a time. Sums are of float64.

Letters in shapes: N images, K classes or outputs.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from fastpipe.errors import MissingExtraError


def check_torchmetrics() -> None:
    """Raise MissingExtraError unless torchmetrics is here."""
    _functional("classification")


def _functional(part: str) -> Any:
    try:
        return importlib.import_module(f"torchmetrics.functional.{part}")
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "train", "The metrics of a run") from error


def macro_f1_of_classes(predicted: Tensor, labels: Tensor, num_classes: int) -> float:
    """The mean F1 of the classes that occur in `predicted` or `labels`, int64 [N]; NaN without images."""
    if not len(labels):
        return math.nan
    score = _functional("classification").multiclass_f1_score
    return float(score(predicted, labels, num_classes=num_classes, average="macro"))


def macro_f1_of_labels(logits: Tensor, labels: Tensor) -> float:
    """The mean F1 over the labels, where a logit above 0 (a probability above 0.5) predicts a label.

    `logits` [N, K], `labels` 0 or 1 [N, K]. A label that nobody has or predicts counts 0, as in scikit-learn.
    NaN without images.
    """
    if not len(labels):
        return math.nan
    score = _functional("classification").multilabel_f1_score
    return float(score((logits > 0.0).long(), labels.long(), num_labels=labels.shape[1], average="macro"))


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """The mean average precision of the labels; those that no image has are left out.

    `logits` [N, K], `labels` 0 or 1 [N, K]. NaN if no image has a label. Average precision is the sum of
    precision times the increase of recall, without interpolation, as in scikit-learn.
    """
    occurs = labels.bool().any(dim=0)
    if not occurs.any():
        return math.nan
    score = _functional("classification").binary_average_precision
    pairs = zip(logits[:, occurs].unbind(dim=1), labels[:, occurs].long().unbind(dim=1), strict=True)
    return float(torch.stack([score(_places(one), truth).double() for one, truth in pairs]).mean())


def _places(scores: Tensor) -> Tensor:
    """The scores [N] in the same order, in 0..1: the library would squash others, and make some equal."""
    order: Tensor = torch.unique(scores, return_inverse=True)[1]
    return order.double() / max(1, len(scores))


def mean_absolute_error(outputs: Tensor, labels: Tensor) -> float:
    """The mean of |output - label| over images and outputs, both [N, K]; NaN without images."""
    if not len(labels):
        return math.nan
    return float(_functional("regression").mean_absolute_error(outputs.double(), labels.double()))


def root_mean_squared_error(outputs: Tensor, labels: Tensor) -> float:
    """The root of the mean squared error of each output, and their mean, as in scikit-learn; both [N, K]."""
    if not len(labels):
        return math.nan
    score = _functional("regression").mean_squared_error
    found = score(outputs.double(), labels.double(), squared=False, num_outputs=labels.shape[1])
    return float(found.mean())


def r2(outputs: Tensor, labels: Tensor) -> float:
    """The coefficient of determination of each output, and their mean; both [N, K]. NaN below two images."""
    if len(labels) < 2:
        return math.nan
    # The library subtracts sums of squares: of years, or of timestamps, their difference would be rounding.
    middle = labels.double().mean(dim=0)
    return float(_functional("regression").r2_score(outputs.double() - middle, labels.double() - middle))
