"""What `--evaluate` reports of labels that are not one class an image: every metric of their task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from fastpipe.train.config.groups import Task
from fastpipe.train.metrics.outcome import outcome_of
from fastpipe.train.metrics.table import LOSS, METRICS, Chosen


def of_vectors(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    task: Task,
    num_outputs: int,
) -> dict[str, Any]:
    """`images` and the metrics by key; labels and outputs are float32 [B, K]."""
    metrics = tuple(metric for metric in METRICS if task in metric.tasks and metric != LOSS)
    outcome = outcome_of(forward, batches, num_outputs=num_outputs, classes=False, keep=True)
    assert outcome.labels is not None
    values = Chosen(measured=metrics, shown=metrics, best=metrics[0]).values(outcome)
    return {"images": len(outcome.labels), **values}


def vector_words(found: Mapping[str, Any]) -> str:
    """What `of_vectors` found, in a line."""
    figures = (
        f"{metric.title} {found[metric.key]:.3f}" for metric in METRICS if found.get(metric.key) is not None
    )
    return f"{'  '.join(figures)}  ({found['images']} images)"
