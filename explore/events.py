"""TensorBoard folders of other trainers as runs of the page: accuracies, and the time between them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastpipe.errors import MissingExtraError
from fastpipe.explore.run import Curve, Minutes, Run

EVENTS = "events.out.tfevents"
# Names under which trainers log top-1 accuracy on validation images; the first one that is there counts.
_TAGS = (
    *("epoch/top1", "val/top1", "val/acc1", "val_acc", "val/acc", "val_accuracy", "val/accuracy"),
    *("eval/top1", "eval/accuracy", "eval_accuracy", "test/accuracy", "Accuracy/test", "Accuracy/val"),
    *("metrics/eval/Accuracy", "accuracy", "top1"),
)
# The folder does not say whether its run has ended.
_STILL_GOING_S = 600.0


class Scalar(NamedTuple):
    """One logged number."""

    at_s: float
    value: float


def read_events(folder: Path, identity: str) -> tuple[Run | None, list[str]]:
    """The run whose scalars are in `folder`, and what is wrong with it."""
    try:
        logged, began_s = _scalars(folder)
    except MissingExtraError:
        raise
    except Exception as error:  # tensorboard has many kinds for files that are torn or foreign
        return None, [f"{identity}: the TensorBoard events cannot be read: {error}"]
    tag = next((tag for tag in _TAGS if tag in logged), None)
    if tag is None:
        return None, [f"{identity}: TensorBoard events without an accuracy (one of {', '.join(_TAGS)})"]
    points = [point for point in logged[tag] if math.isfinite(point.value)]
    if not points:
        return None, [f"{identity}: {tag} has no finite value"]
    return _run(folder, identity, tag, points, began_s), []


def _scalars(folder: Path) -> tuple[dict[str, list[Scalar]], float]:
    """All scalars by tag, in their order, and when the first event was written."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise MissingExtraError("tensorboard", "train", "Reading TensorBoard folders") from error
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    logged = {tag: list(_of(events.Scalars(tag))) for tag in events.Tags()["scalars"]}
    return logged, float(events.FirstEventTimestamp())


def _of(events: Sequence[Any]) -> Iterator[Scalar]:
    for event in events:
        yield Scalar(float(event.wall_time), float(event.value))


def _run(folder: Path, identity: str, tag: str, points: list[Scalar], began_s: float) -> Run:
    # A share or a percentage: a trainer that never exceeds 1 % is not worth a guess.
    began_s = min(began_s, points[0].at_s)
    scale = 100.0 if max(point.value for point in points) <= 1.0 else 1.0
    curve = Curve.of(
        {
            number: ((point.at_s - began_s) / 60, scale * point.value)
            for number, point in enumerate(points, start=1)
        }
    )
    return Run(
        id=identity,
        kind="own",
        family="TensorBoard",
        title=folder.name,
        group=identity,
        dataset="unknown data",
        model="unknown model",
        quality=curve.quality[-1],
        minutes=Minutes(stated=curve.minutes[-1] or None),
        finished=time.time() - points[-1].at_s > _STILL_GOING_S,
        curve=curve,
        place=str(folder),
        notes=f"from the TensorBoard scalar {tag}; minutes since its first event",
    )
