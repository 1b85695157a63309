"""`fastpipe-train --evaluate`: the accuracy of a checkpoint on a data set, as the run itself measures it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastpipe.errors import ArgumentError
from fastpipe.train.broken import broken_counts, broken_words
from fastpipe.train.checkpoint import is_checkpoint, load_plain
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import eval_loader
from fastpipe.train.distributed import device_named
from fastpipe.train.measure.forward import forward_of
from fastpipe.train.measure.judged import judge
from fastpipe.train.measure.record import split_record
from fastpipe.train.measure.sources import check_no_source
from fastpipe.train.measure.words import MISTAKES, split_lines
from fastpipe.train.metrics.absent import absent_words
from fastpipe.train.metrics.evaluated import of_vectors, vector_words
from fastpipe.train.splits import Images, same_classes, splits_to_measure, task_of
from fastpipe.train.step import resolved_precision
from fastpipe.train.weights import Told, Trained, described

_NOTHING = Told()
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The result of `evaluate`, and the splits that were measured, by name: the pictures of its mistakes."""

    record: dict[str, Any]
    splits: Mapping[str, Images]

    @property
    def reported(self) -> Mapping[str, Any]:
        """The record of each split with the weights whose top-1 a run reports: the first ones."""
        found: Mapping[str, Any] = next(iter(self.record["weights"].values()))
        return found


def evaluate(
    checkpoint: Path,
    data: str,
    *,
    batch_size: int | None = None,
    num_workers: int | str | None = None,
    on_error: str | None = None,
    max_bad: float | None = None,
    device: str | None = None,
    mistakes: int = MISTAKES,
    told: Told = _NOTHING,
    outputs: Mapping[str, str] = _NONE,
) -> Evaluated:
    """What `split_record` says, for each set of weights and for each split that is not trained on.

    For labels that are not one class, all metrics of their task instead, but for the loss. Model, sizes and
    classes come from the checkpoint; for a file written by `--export`, from its card or from `told`. device:
    as `device_named` takes it. outputs: option -> a file that will be written, which must not be one of the
    images. Raises ArgumentError if `data` has other classes.
    """
    place = device_named(device)
    state = load_plain(checkpoint)
    own = state["config"] if is_checkpoint(state) else {}
    trained = described(state, checkpoint, told, ())
    splits = splits_to_measure(
        data,
        trained_on=own.get("data"),
        held_out=own.get("held_out", TrainConfig().held_out),
        table=trained.config.table,
        task=trained.task,
        names=trained.classes or None,
    )
    for option, path in outputs.items():
        check_no_source(option, path, list(splits.values()))
    # Weights that a recipe describes have no names: those of the data.
    trained = replace(trained, classes=trained.classes or next(iter(splits.values())).classes)
    given = {"batch_size": batch_size, "num_workers": num_workers, "on_error": on_error, "max_bad": max_bad}
    config = with_given(trained.config, data=data, **given)
    for images in splits.values():
        _check_classes(trained, images, data)
    record = {
        "checkpoint": str(checkpoint),
        "model": config.model,
        "task": trained.task,
        "classes": list(trained.classes),
        "data": data,
        "step": trained.step,
        "device": place.type,
        "precision": resolved_precision(config.precision, place),
        "weights": {
            name: _measure(config, trained.model(weights, place), splits, trained, place, mistakes=mistakes)
            for name, weights in trained.weights().items()
        },
    }
    return Evaluated(record=record, splits=splits)


def with_given(config: TrainConfig, **given: Any) -> TrainConfig:
    """The configuration with the values that are not None."""
    return replace(config, **{key: value for key, value in given.items() if value is not None})


def _check_classes(trained: Trained, images: Images, data: str) -> None:
    if task_of(images) == trained.task and same_classes(trained.classes, images):
        return
    found = images.classes
    missing, other = sorted(set(trained.classes) - set(found)), sorted(set(found) - set(trained.classes))
    raise ArgumentError(
        f"--data {data!r} must have the {len(trained.classes)} classes that {str(trained.path)!r} was "
        f"trained on, under the same names. Found: {len(found)} classes, without {missing[:5]}, with "
        f"{other[:5]} instead"
    )


def _measure(
    config: TrainConfig,
    model: nn.Module,
    splits: Mapping[str, Images],
    trained: Trained,
    device: torch.device,
    *,
    mistakes: int,
) -> dict[str, Any]:
    """By split: its record, and how many images were left out or replaced."""
    forward, results, num = forward_of(config, model, device), {}, len(trained.classes)
    for name, images in splits.items():
        loader = eval_loader(config, images, device=device)
        record = (
            split_record(judge(forward, loader, num_classes=num), images, trained.classes, mistakes=mistakes)
            if trained.task == "classes"
            else of_vectors(forward, loader, trained.task, trained.classes, units=trained.units)
        )
        results[name] = {**record, "broken_samples": broken_counts(loader)}
    return results


def evaluation_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The result of `evaluate` in readable lines: the classes below their set of weights."""
    after = "" if result["step"] is None else f" after step {result['step']}"
    yield (
        f"{result['checkpoint']}: {result['model']}{after}, on {result['data']} "
        f"({result['device']}, {result['precision']})"
    )
    for weights, splits in result["weights"].items():
        for split, found in splits.items():
            if result["task"] != "classes":
                yield f"{weights:4s} {split}: {vector_words(found)}"
                if absent := found.get("labels_without_images"):
                    yield f"    {absent_words(absent, result['classes'], split)}"
                yield from (f"    {words}" for words in broken_words({split: found["broken_samples"]}))
                continue
            five = "" if found["top5"] is None else f"  top-5 {found['top5']:.3f}"
            yield f"{weights:4s} {split}: top-1 {found['top1']:.3f}{five}  ({found['images']} images)"
            for words in broken_words({split: found["broken_samples"]}):
                yield f"    {words}"
            for line in split_lines(found):
                yield f"    {line}"
