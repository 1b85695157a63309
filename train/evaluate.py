"""`fastpipe-train --evaluate`: the accuracy of a checkpoint on a data set, as the run itself measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.accuracy import per_class, sum_counts, top1, top5
from fastpipe.train.algorithms.channels_last import memory_format
from fastpipe.train.algorithms.test_time_flip import flipped_logits
from fastpipe.train.broken import broken_counts, broken_words
from fastpipe.train.checkpoint import FORMAT, is_checkpoint, load_plain
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import eval_loader
from fastpipe.train.distributed import device_named
from fastpipe.train.metrics.evaluated import of_vectors, vector_words
from fastpipe.train.splits import Images, same_classes, splits_to_measure, task_of
from fastpipe.train.step import autocast, resolved_precision
from fastpipe.train.weights import Told, Trained, read_exported, trained_of

_NOTHING = Told()


def evaluate(
    checkpoint: Path,
    data: str,
    *,
    batch_size: int | None = None,
    num_workers: int | str | None = None,
    on_error: str | None = None,
    max_bad: float | None = None,
    device: str | None = None,
    told: Told = _NOTHING,
) -> dict[str, Any]:
    """Top-1, top-5 and per class, for each set of weights and for each split that is not trained on.

    Model, sizes and classes come from the checkpoint; for a file written by `--export`, from its card or from
    `told`. device: as `device_named` takes it. Raises ArgumentError if `data` has other classes.
    """
    place = device_named(device)
    state = load_plain(checkpoint)
    own = state["config"] if is_checkpoint(state) else {}
    described = _trained(state, checkpoint, told, ())
    splits = splits_to_measure(
        data,
        trained_on=own.get("data"),
        held_out=own.get("held_out", TrainConfig().held_out),
        table=described.config.table,
        task=described.task,
        names=described.classes or None,
    )
    # Weights that a recipe describes have no names: those of the data.
    trained = replace(described, classes=described.classes or next(iter(splits.values())).classes)
    given = {"batch_size": batch_size, "num_workers": num_workers, "on_error": on_error, "max_bad": max_bad}
    config = _with_given(trained.config, data=data, **given)
    for images in splits.values():
        _check_classes(trained, images, data)
    return {
        "checkpoint": str(checkpoint),
        "model": config.model,
        "task": trained.task,
        "data": data,
        "step": trained.step,
        "device": place.type,
        "precision": resolved_precision(config.precision, place),
        "weights": {
            name: _measure(config, trained.model(weights, place), splits, trained, place)
            for name, weights in trained.weights().items()
        },
    }


def _trained(state: Any, path: Path, told: Told, classes: tuple[str, ...]) -> Trained:
    if is_checkpoint(state):
        if told.given():
            names = ", ".join(f"--{key.replace('_', '-')}" for key in told.given())
            raise ArgumentError(
                f"{str(path)!r} is a run's checkpoint and describes its own model. Leave out {names}"
            )
        return trained_of(state, path)
    if isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values()):
        return read_exported(path, state, told, classes)
    raise DataError(
        f"{str(path)!r} is neither a checkpoint of fastpipe-train (format {FORMAT}) nor a plain state_dict, "
        "as --export writes it"
    )


def _with_given(config: TrainConfig, **given: Any) -> TrainConfig:
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
) -> dict[str, Any]:
    """By split: images, top1, top5 (None below six classes, since it means nothing there), per class.

    For labels of another kind all metrics of their task instead, but for the loss.
    """
    forward = _forward(config, model, device)
    results: dict[str, Any] = {}
    for name, images in splits.items():
        loader = eval_loader(config, images, device=device)
        batches = _on_device(loader, config, device)
        results[name] = (
            _of_classes(forward, batches, trained.classes)
            if trained.task == "classes"
            else of_vectors(forward, batches, trained.task, len(trained.classes))
        )
        results[name]["broken_samples"] = broken_counts(loader)
    return results


def _of_classes(
    forward: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]], classes: tuple[str, ...]
) -> dict[str, Any]:
    counts = sum_counts(forward, batches, num_classes=len(classes))
    return {
        "images": int(counts[:, 0].sum()),
        "top1": top1(counts),
        "top5": top5(counts),
        "per_class": per_class(counts, classes),
    }


def _forward(config: TrainConfig, model: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Images to logits, in the run's precision and with its test-time flip."""
    precision = resolved_precision(config.precision, device)

    def plain(images: Tensor) -> Tensor:
        with autocast(device, precision):
            logits: Tensor = model(images)
        return logits

    return (lambda images: flipped_logits(plain, images)) if config.tta else plain


def _on_device(
    loader: Iterable[Any], config: TrainConfig, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    layout = memory_format(config.channels_last)
    for images, labels in loader:
        yield (
            images.to(device, memory_format=layout, non_blocking=True),
            labels.to(device, non_blocking=True),
        )


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
                yield from (f"    {words}" for words in broken_words({split: found["broken_samples"]}))
                continue
            five = "" if found["top5"] is None else f"  top-5 {found['top5']:.3f}"
            yield f"{weights:4s} {split}: top-1 {found['top1']:.3f}{five}  ({found['images']} images)"
            for words in broken_words({split: found["broken_samples"]}):
                yield f"    {words}"
            for name, share in found["per_class"].items():
                yield f"    {name}: " + ("no images" if share is None else f"{share:.3f}")
