"""The messages of a run at its beginning and its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from fastpipe.storage import DEMO_NOTE
from fastpipe.train.augment import augment_specs
from fastpipe.train.best import Best
from fastpipe.train.broken import broken_words
from fastpipe.train.config.groups import Task
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.cudnn import cudnn_choice
from fastpipe.train.metrics.table import Metric
from fastpipe.train.optimizers import WAITING
from fastpipe.train.output.records import figure
from fastpipe.train.step import resolved_precision

_LABELS: Mapping[Task, str] = {
    "classes": "{} classes",
    "multi-label": "multi-label, {} labels",
    "regression": "regression, outputs: {}",
}


def announcement(
    config: TrainConfig,
    changes: Mapping[str, tuple[Any, Any]],
    num_images: int,
    num_classes: int,
    steps_per_epoch: int,
    world_size: int,
    device: torch.device,
    *,
    task: Task = "classes",
    of_task: Mapping[str, tuple[Any, Any]] = MappingProxyType({}),
) -> Iterator[str]:
    """What is trained on which data, and how the recipe was changed.

    `changes` are those of fit_to_data, `of_task` those of labels that are not one class an image.
    """
    c = config
    if c.data == "demo":
        yield f"note: {DEMO_NOTE}"
    yield (
        f"{c.recipe}: {c.model} on {c.data} ({num_images} images, {_LABELS[task].format(num_classes)}), "
        f"{c.epochs} epochs of {steps_per_epoch} steps, on {device.type}"
    )
    if world_size > 1:
        yield (
            f"{world_size} processes: batch {c.batch_size} in total, "
            f"{c.batch_size // world_size} each, learning rate {c.optimizer.lr:g} for all"
        )
    precision = resolved_precision(c.precision, device)
    if precision != c.precision:
        yield f"precision: {c.precision} is {precision} on {device.type}"
    if device.type == "cuda":
        yield from _device_notes(c, precision)
    for key, (before, after) in of_task.items():
        yield f"fitted to the labels: {key} {before} -> {after}"
    for key, (before, after) in changes.items():
        yield f"fitted to the data: {key} {before:g} -> {after:g}"
    if augmentations := ", ".join(map(repr, augment_specs(c))):
        yield f"augment: {augmentations}"


def _device_notes(config: TrainConfig, precision: str) -> Iterator[str]:
    """The decisions for the GPU, and what makes the host wait for it."""
    tried, why = cudnn_choice(config)
    yield f"cudnn.benchmark: {'on' if tried else 'off'} ({why})"
    if precision == "amp_fp16" and config.optimizer.name in WAITING:
        remedy = "; --precision amp_bf16 needs no scaler" if torch.cuda.is_bf16_supported() else ""
        yield (
            f"note: with {config.optimizer.name} and float16 the loss scaler waits for the GPU at every step"
            f"{remedy}"
        )


def conclusion(summary: Mapping[str, Any], shown: Sequence[Metric], best: Best) -> str:
    """A summary.json in one line, with the metrics `shown`."""
    return (
        f"{''.join(_figures(summary, shown))}"
        f"{f'best {best.words()}, ' if best.value is not None else ''}"
        f"time to train {summary['time_to_train_s']:.1f} s, {summary['images_per_s']:.0f} images/s, "
        f"data wait {summary['data_wait_share']:.0%}{''.join(_reckoned(summary))}"
        f"{''.join(f'; {words}' for words in broken_words(summary.get('broken_samples', {})))}"
    )


def _figures(summary: Mapping[str, Any], shown: Sequence[Metric]) -> Iterator[str]:
    for title, key in ((metric.title, metric.key) for metric in shown):
        yield f"{title} {figure(summary[key])} (raw weights {figure(summary[f'{key}_raw'])}), "
        if f"test_{key}" in summary:
            yield f"test {title} {figure(summary[f'test_{key}'])}, "


def _reckoned(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary.get("stopped_early"):
        yield f", stopped early after epoch {summary['stopped_early']}"
    if "cost" in summary:
        yield f", cost {summary['cost']:.4g}"
    if "energy_kwh" in summary:
        yield f", energy {summary['energy_kwh']:.4g} kWh"
    if longer := summary.get("extrapolation"):
        yield (
            f"; measured over {longer['measured_epochs']} epochs and extrapolated (our formula) to "
            f"{longer['extrapolated_epochs']}: {longer['extrapolated_time_to_train_s']:.1f} s"
        )
