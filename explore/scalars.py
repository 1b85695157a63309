"""Numbers that another trainer logged, as a run of the page: an accuracy, and the time between its values."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fastpipe.explore.run import Curve, Minutes, Run

# Names under which trainers log top-1 accuracy on validation images; the first one that is there counts.
_NAMES = (
    *("epoch/top1", "val/top1", "val/acc1", "val_acc", "val/acc", "val_accuracy", "val/accuracy"),
    *("eval/top1", "eval/accuracy", "eval_accuracy", "test/accuracy", "Accuracy/test", "Accuracy/val"),
    *("metrics/eval/Accuracy", "accuracy", "top1"),
)
_STILL_GOING_S = 600.0


class Scalar(NamedTuple):
    """One logged number."""

    at_s: float
    value: float


def run_of_scalars(
    logged: Mapping[str, Sequence[Scalar]],
    began_s: float,
    *,
    folder: Path,
    identity: str,
    maker: str,
    ended: bool = False,
) -> tuple[Run | None, list[str]]:
    """The run that logged these numbers, and what is wrong with it.

    maker: what wrote them, such as W&B. ended: the folder says that its run has ended; where it does not, a
    run without a new value for ten minutes counts as ended.
    """
    name = next((name for name in _NAMES if name in logged), None)
    if name is None:
        return None, [f"{identity}: {maker} has no accuracy here (one of {', '.join(_NAMES)})"]
    points = [point for point in logged[name] if math.isfinite(point.value)]
    if not points:
        return None, [f"{identity}: {name} has no finite value"]
    curve = _curve(points, min(began_s, points[0].at_s))
    run = Run(
        id=identity,
        kind="own",
        family=maker,
        title=folder.name,
        group=identity,
        dataset="unknown data",
        model="unknown model",
        quality=curve.quality[-1],
        minutes=Minutes(stated=curve.minutes[-1] or None),
        finished=ended or time.time() - points[-1].at_s > _STILL_GOING_S,
        curve=curve,
        place=str(folder),
        notes=f"{name} as {maker} has it; minutes since its first entry",
    )
    return run, []


def _curve(points: Sequence[Scalar], began_s: float) -> Curve:
    # A share or a percentage: a trainer that never exceeds 1 % is not worth a guess.
    scale = 100.0 if max(point.value for point in points) <= 1.0 else 1.0
    return Curve.of(
        {
            number: ((point.at_s - began_s) / 60, scale * point.value)
            for number, point in enumerate(points, start=1)
        }
    )
