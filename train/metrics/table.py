"""The metrics by name: for which task, which direction is better, and how each is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastpipe.errors import ArgumentError, nearest
from fastpipe.train.accuracy import top1, top5
from fastpipe.train.config.groups import Task
from fastpipe.train.metrics.library import (
    check_torchmetrics,
    macro_f1_of_classes,
    macro_f1_of_labels,
    mean_absolute_error,
    mean_average_precision,
    r2,
    root_mean_squared_error,
)
from fastpipe.train.metrics.outcome import Outcome

_CLASSES: Final = ("classes",)
_LABELS: Final = ("multi-label",)
_NUMBERS: Final = ("regression",)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of a validation.

    name: on the command line. key: in metrics.jsonl and summary.json. title: in lines for people. higher:
    whether more is better. kept: it needs the outputs and labels of every image.
    """

    name: str
    key: str
    title: str
    tasks: tuple[Task, ...]
    compute: Callable[[Outcome], float | None]
    higher: bool = True
    kept: bool = True

    def __reduce__(self) -> tuple[Callable[[str, str], Metric], tuple[str, str]]:
        """By name: ranks send one another the best so far, and functions without a name cannot be sent."""
        return metric_named, (self.name, "metric")

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` is better than an earlier one. NaN and infinities are never, a tie is not."""
        if not math.isfinite(value):
            return False
        return than is None or (value > than if self.higher else value < than)


def _counted(share: Callable[..., float | None]) -> Callable[[Outcome], float | None]:
    return lambda outcome: share(outcome.counts)


def _kept(figure: Callable[..., float]) -> Callable[[Outcome], float]:
    return lambda outcome: figure(outcome.outputs, outcome.labels)


def _macro_f1(outcome: Outcome) -> float:
    assert outcome.outputs is not None and outcome.labels is not None
    if outcome.counts is None:
        return macro_f1_of_labels(outcome.outputs, outcome.labels)
    return macro_f1_of_classes(outcome.outputs, outcome.labels, len(outcome.counts))


METRICS: Final = (
    Metric(name="top-1", key="top1", title="top-1", tasks=_CLASSES, compute=_counted(top1), kept=False),
    Metric(name="top-5", key="top5", title="top-5", tasks=_CLASSES, compute=_counted(top5), kept=False),
    Metric(
        name="macro-f1",
        key="macro_f1",
        title="macro-F1",
        tasks=(*_CLASSES, *_LABELS),
        compute=_macro_f1,
    ),
    Metric(name="map", key="map", title="mAP", tasks=_LABELS, compute=_kept(mean_average_precision)),
    Metric(
        name="mae", key="mae", title="MAE", tasks=_NUMBERS, compute=_kept(mean_absolute_error), higher=False
    ),
    Metric(
        name="rmse",
        key="rmse",
        title="RMSE",
        tasks=_NUMBERS,
        compute=_kept(root_mean_squared_error),
        higher=False,
    ),
    Metric(name="r2", key="r2", title="R2", tasks=_NUMBERS, compute=_kept(r2)),
    Metric(
        name="loss",
        key="val_loss",
        title="validation loss",
        tasks=(*_CLASSES, *_LABELS, *_NUMBERS),
        compute=lambda outcome: outcome.loss,
        higher=False,
        kept=False,
    ),
)
LOSS: Final = METRICS[-1]
# Measured in any case; the first is the default of --best-metric.
_ALWAYS: Final = {"classes": ("top-1", "top-5"), "multi-label": ("map",), "regression": ("mae",)}


def names(text: str | None) -> tuple[str, ...]:
    """The names in the value of `--metric`, which commas separate."""
    return () if text is None else tuple(part.strip().lower() for part in text.split(","))


def metric_named(name: str, key: str) -> Metric:
    """The metric of a name in small letters. Raises ArgumentError, which names the key of the recipe."""
    found = next((metric for metric in METRICS if metric.name == name), None)
    if found is None:
        known = [metric.name for metric in METRICS]
        raise ArgumentError(f"{key} must be of {', '.join(known)}. Found: {name!r}.{nearest(name, known)}")
    return found


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The metrics of a run. shown: those of the line of an epoch. best: the one that best.ckpt goes by."""

    measured: tuple[Metric, ...]
    shown: tuple[Metric, ...]
    best: Metric

    @property
    def keep(self) -> bool:
        """Whether the outputs of every image must be kept."""
        return any(metric.kept for metric in self.measured)

    def values(self, outcome: Outcome) -> dict[str, float | None]:
        """Every figure by key; None where it means nothing or is not finite, which JSON cannot say.

        With a NaN among the outputs none has a value, so that no epoch with one is the best.
        """
        if outcome.nan:
            return dict.fromkeys(metric.key for metric in self.measured)
        found = {metric.key: metric.compute(outcome) for metric in self.measured}
        return {
            key: value if value is not None and math.isfinite(value) else None for key, value in found.items()
        }


def chosen(task: Task, metric: str | None, best_metric: str | None, *, num_classes: int) -> Chosen:
    """The metrics of a task. Raises ArgumentError for one that has no meaning for it."""
    asked = [_fitting(name, task, "metric") for name in names(metric)]
    always = [metric_named(name, "metric") for name in _ALWAYS[task]]
    best = always[0] if best_metric is None else _fitting(best_metric.lower(), task, "best_metric")
    if best.name == "top-5" and num_classes <= 5:
        raise ArgumentError(
            f"best_metric must not be top-5 below six classes, where it means nothing. Found: {num_classes} "
            "classes. Give --best-metric top-1"
        )
    measured = _once([*always, *asked, best])
    if any(one.kept for one in measured):
        check_torchmetrics()
    return Chosen(measured=measured, shown=_once([always[0], *asked, best]), best=best)


def _fitting(name: str, task: Task, key: str) -> Metric:
    found = metric_named(name, key)
    if task not in found.tasks:
        fitting = ", ".join(metric.name for metric in METRICS if task in metric.tasks)
        raise ArgumentError(f"{key} must be of {fitting} where labels are {task}. Found: {name!r}")
    return found


def _once(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    return tuple(dict.fromkeys(metrics))
