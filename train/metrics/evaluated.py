"""What `--evaluate` reports of labels that are not one class an image: every metric of their task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from fastpipe.errors import DataError
from fastpipe.train.config.groups import Task
from fastpipe.train.metrics.absent import labels_without_images
from fastpipe.train.metrics.outcome import outcome_of
from fastpipe.train.metrics.table import LOSS, METRICS, Chosen
from fastpipe.train.units import Units


def of_vectors(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    task: Task,
    names: Sequence[str],
    *,
    units: Units | None = None,
) -> dict[str, Any]:
    """`images` and the metrics by key. labels and outputs: [B, K]; names: of the K outputs; units: those that
    the outputs are standardised by.
    """
    metrics = tuple(metric for metric in METRICS if task in metric.tasks and metric != LOSS)
    outcome = outcome_of(
        forward,
        batches,
        num_outputs=len(names),
        classes=False,
        keep=True,
        given=None if units is None else units.given,
    )
    assert outcome.labels is not None
    check_no_nan(outcome.nan, len(outcome.labels))
    values = Chosen(measured=metrics, shown=metrics, best=metrics[0]).values(outcome)
    found: dict[str, Any] = {"images": len(outcome.labels), **values}
    if task == "multi-label":
        found["labels_without_images"] = list(labels_without_images(outcome.labels.numpy(), names))
    return found


def vector_words(found: Mapping[str, Any]) -> str:
    """What `of_vectors` found, in a line."""
    figures = (
        f"{metric.title} {found[metric.key]:.3f}" for metric in METRICS if found.get(metric.key) is not None
    )
    return f"{'  '.join(figures)}  ({found['images']} images)"


def check_no_nan(count: int, images: int) -> None:
    """Raise DataError if outputs of `count` of the `images` are NaN."""
    if count:
        raise DataError(
            f"the model gives NaN for {count} of {images} images, so nothing can be said about them. Use "
            "another checkpoint, or --precision fp32 in training if only half precision overflows"
        )
