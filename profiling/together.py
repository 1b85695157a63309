"""All stages together: the real loaders, and the loader feeding the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.utils.data

from fastpipe import DataLoader
from fastpipe.profiling.inputs import Cycle, Inputs
from fastpipe.profiling.stages import StageResult
from fastpipe.profiling.timing import Budget, Repeat, Stopwatch, summarize
from fastpipe.storage import FolderDataset

__all__ = ["epoch_batches", "loader_batch", "time_loaders", "time_with_model"]

_MIN_REPEATS = 3
_BATCHES_PER_EPOCH = 8


def loader_batch(asked: int, rate: float, window_s: float) -> int:
    """The asked batch, or a power of two of which at least eight pass in `window_s` at `rate` images/s.

    The cost of an image hardly depends on the batch; a window of one batch would measure the start.
    """
    size = 4
    while size * 2 * _BATCHES_PER_EPOCH <= rate * window_s:
        size *= 2
    return min(asked, size)


def epoch_batches(batch_size: int, rate: float, window_s: float, workers: int) -> int:
    """Batches of about `window_s` seconds: a multiple of the workers, so that they end together."""
    lanes = max(1, workers)
    return max(2, round(window_s * rate / (batch_size * lanes))) * lanes


def _loader(
    make: Callable[..., Any], inputs: Inputs, transform: Any, batches: int, settings: dict[str, Any]
) -> Any:
    dataset = FolderDataset(inputs.index.root, transform, index=inputs.index)
    sampler = Cycle(inputs.ids, batches * settings["batch_size"])
    return make(dataset, sampler=sampler, **settings)


def time_loaders(
    inputs: Inputs,
    transform: Any,
    *,
    batch_size: int,
    batches: int,
    workers: int,
    device: torch.device,
    repeats: int,
    memory_format: Any,
) -> tuple[StageResult, StageResult]:
    """fastpipe's loader and torch's own, doing the same work in alternating epochs of `batches`.

    Whole epochs of persistent workers: nothing is prefetched for the other's turn, no process starts or ends.
    The first epoch of each is dropped.
    """
    settings = {"batch_size": batch_size, "num_workers": workers, "persistent_workers": workers > 0}
    ours = _loader(DataLoader, inputs, transform, batches, {**settings, "memory_format": memory_format})
    plain = _loader(
        torch.utils.data.DataLoader,
        inputs,
        transform,
        batches,
        {**settings, "pin_memory": device.type == "cuda"},
    )
    timed: tuple[list[Repeat], list[Repeat]] = ([], [])
    for turn in range(max(_MIN_REPEATS, repeats) + 1):
        for loader, kept in zip((ours, plain), timed, strict=True):
            repeat = _epoch(loader, device)
            if turn > 0:
                kept.append(repeat)
    what = (
        f"{workers} workers, batches of {batch_size}" if workers else f"no workers, batches of {batch_size}"
    )
    return (
        StageResult(name="fastpipe.DataLoader", lane=None, what=what, timing=summarize(timed[0])),
        StageResult(name="torch DataLoader", lane=None, what="the same work", timing=summarize(timed[1])),
    )


def _epoch(loader: Any, device: torch.device) -> Repeat:
    images = 0
    watch = Stopwatch()
    for batch, _ in loader:
        images += len(batch.to(device, non_blocking=True))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return watch.stop(images)


def time_with_model(
    inputs: Inputs,
    transform: Any,
    step: Callable[[torch.Tensor, torch.Tensor], None],
    *,
    batch_size: int,
    workers: int,
    seconds: float,
    window: int,
    memory_format: Any,
) -> StageResult:
    """fastpipe's loader feeding the model, in steady state: the start is dropped, then windows of steps.

    window: steps in a repeat; a multiple of the workers where the loader is slower, since their batches then
    arrive together.
    """
    settings = {"batch_size": batch_size, "num_workers": workers, "memory_format": memory_format}
    # As many batches as no run will see: the iterator is closed when the time is over.
    loader = _loader(DataLoader, inputs, transform, 1_000_000, settings)
    batches = iter(loader)
    repeats: list[Repeat] = []
    try:
        # The workers fill their queues while the first steps run.
        _steps(batches, step, 1 + window)
        budget = Budget(seconds, _MIN_REPEATS)
        while budget.allows(len(repeats)):
            watch = Stopwatch()
            repeats.append(watch.stop(_steps(batches, step, window)))
    finally:
        batches.close()
    what = f"batches of {batch_size}, steady state"
    return StageResult(name="loader + model", lane=None, what=what, timing=summarize(repeats))


def _steps(batches: Any, step: Callable[[torch.Tensor, torch.Tensor], None], num: int) -> int:
    images_done = 0
    for _ in range(num):
        images, labels = next(batches)
        step(images, labels)
        images_done += len(images)
    return images_done
