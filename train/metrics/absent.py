"""Labels that no image of a split has: average precision is not defined for them, so mAP leaves them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

_SHOWN = 5


def labels_without_images(labels: npt.NDArray[Any], names: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns of `labels`, 0 or 1 [N, K], in which no image has 1."""
    occurs = (labels != 0).any(axis=0)
    return tuple(name for name, one in zip(names, occurs.tolist(), strict=True) if not one)


def absent_words(absent: Sequence[str], names: Sequence[str], split: str) -> str:
    """What mAP leaves out, in a sentence; "" if it leaves out nothing."""
    if not absent:
        return ""
    if len(absent) == len(names):
        return f"no {split} image has any of the {len(names)} labels: mAP is not known"
    more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
    shown = ", ".join(map(repr, absent[:_SHOWN]))
    return f"mAP leaves out {len(absent)} of {len(names)} labels, which no {split} image has: {shown}{more}"
