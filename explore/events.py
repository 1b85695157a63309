"""TensorBoard folders of other trainers as runs of the page: accuracies, and the time between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastpipe.errors import MissingExtraError
from fastpipe.explore.limits import LOGS, left_out
from fastpipe.explore.run import Run
from fastpipe.explore.scalars import Scalar, run_of_scalars

EVENTS = "events.out.tfevents"


def read_events(folder: Path, identity: str) -> tuple[Run | None, list[str]]:
    """The run whose scalars are in `folder`, and what is wrong with it."""
    if reason := left_out(LOGS, *sorted(folder.glob(f"{EVENTS}*"))):
        return None, [f"{identity}: {reason}"]
    try:
        logged, began_s = _scalars(folder)
    except MissingExtraError:
        raise
    except Exception as error:  # tensorboard has many kinds for files that are torn or foreign
        return None, [f"{identity}: the TensorBoard events cannot be read: {error}"]
    return run_of_scalars(logged, began_s, folder=folder, identity=identity, maker="TensorBoard")


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
