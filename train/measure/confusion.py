"""Which class was taken for which, and what follows for each class.

K classes. Only pairs that occurred are kept: a dense matrix of 20,000 classes would have 3 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastpipe.types import IntArray

Confusion = Mapping[tuple[int, int], int]
"""The number of images by (label, predicted class)."""


class ClassFigures(NamedTuple):
    """The figures of one class, 0..1. None: nothing to divide by.

    precision: of the images that were taken for this class, the share that is of it
    recall:    of the images of this class, the share that was found
    f1:        their harmonic mean, 2 right / (support + predicted)
    support:   the number of images of this class
    predicted: the number of images that were taken for it
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


def confusion_of(labels: IntArray, predicted: IntArray, *, num_classes: int) -> Confusion:
    """The counts of the pairs that occur; labels and predicted are int64 [N], 0..K-1."""
    pairs, counts = np.unique(labels * num_classes + predicted, return_counts=True)
    found = zip(pairs.tolist(), counts.tolist(), strict=True)
    return {divmod(pair, num_classes): count for pair, count in found}


def class_figures(confusion: Confusion, *, num_classes: int) -> list[ClassFigures]:
    """The figures of every class, by number."""
    support, predicted, right = ([0] * num_classes for _ in range(3))
    for (label, answer), count in confusion.items():
        support[label] += count
        predicted[answer] += count
        right[label] += count if label == answer else 0
    return [_figures(*numbers) for numbers in zip(support, predicted, right, strict=True)]


def _figures(support: int, predicted: int, right: int) -> ClassFigures:
    return ClassFigures(
        precision=_share(right, predicted),
        recall=_share(right, support),
        f1=_share(2 * right, support + predicted),
        support=support,
        predicted=predicted,
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def macro_f1(figures: list[ClassFigures]) -> float | None:
    """The mean F1 over the classes that have images or were predicted, 0..1; None without any."""
    known = [one.f1 for one in figures if one.f1 is not None]
    return round(sum(known) / len(known), 6) if known else None
