"""All stages together: the real loaders, in alternating epochs, and the loader feeding the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastpipe.profiling import names
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.setting import Setting
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import Budget, Repeat, Stopwatch, summarize
from fastpipe.profiling.measure.variants import MIN_REPEATS, Variant, alternate, make_loader
from fastpipe.profiling.names import Id

_BATCHES_PER_EPOCH = 8


def loader_batch(asked: int, rate: float, window_s: float) -> int:
    """The requested batch, or a power of two; at least eight batches pass in `window_s` at `rate` images/s.

    The cost of an image hardly depends on the batch size; a window of one batch would measure the start.
    """
    size = 4
    while size * 2 * _BATCHES_PER_EPOCH <= rate * window_s:
        size *= 2
    return min(asked, size)


def epoch_batches(batch_size: int, rate: float, window_s: float, workers: int) -> int:
    """Batches of about `window_s` seconds: a multiple of the workers, so that they end together."""
    lanes = max(1, workers)
    return max(2, round(window_s * rate / (batch_size * lanes))) * lanes


def loader_words(workers: int, batch_size: int) -> str:
    """What the row of a loader says."""
    if workers == 0:
        return f"no workers, batches of {batch_size}"
    return f"{workers} worker{'s' if workers > 1 else ''}, batches of {batch_size}"


def time_variants(
    setting: Setting,
    inputs: Inputs,
    variants: Mapping[Id, Variant],
    *,
    batch_size: int,
    rate: float,
    repeats: int,
) -> dict[Id, StageResult]:
    """Loaders doing the same work in alternating epochs of about `setting.window_s` seconds.

    rate: images/s expected with the profiled workers; a loader with fewer workers gets shorter epochs.
    Whole epochs of persistent workers: nothing is prefetched in another's turn, no process starts or ends.
    The first epoch of each is dropped.
    """
    loaders = {}
    for id, variant in variants.items():
        expected = rate * max(1, variant.workers) / max(1, setting.workload.workers)
        loaders[id] = make_loader(
            inputs,
            setting.transform,
            variant,
            batch_size=batch_size,
            batches=epoch_batches(batch_size, expected, setting.window_s, variant.workers),
            memory_format=setting.memory_format,
        )
    timed = alternate(loaders, setting.device, repeats)
    return {
        id: StageResult(
            id=id,
            lane=None,
            what=loader_words(variants[id].workers, batch_size),
            timing=summarize(timed[id]),
        )
        for id in variants
    }


def time_with_model(
    loader: Any,
    step: Callable[[torch.Tensor, torch.Tensor], None],
    *,
    batch_size: int,
    seconds: float,
    window: int,
) -> StageResult:
    """An endless loader feeding the model, in steady state: the start is dropped, then windows of steps.

    window: steps in a repeat; a multiple of the workers if the loader is slower, since their batches then
    arrive together.
    """
    batches = iter(loader)
    repeats: list[Repeat] = []
    try:
        # The workers fill their queues while the first steps run.
        _steps(batches, step, 1 + window)
        budget = Budget(seconds, MIN_REPEATS)
        while budget.allows(len(repeats)):
            watch = Stopwatch()
            repeats.append(watch.stop(_steps(batches, step, window)))
    finally:
        batches.close()
    what = f"batches of {batch_size}, steady state"
    return StageResult(id=names.TOGETHER, lane=None, what=what, timing=summarize(repeats))


def _steps(batches: Any, step: Callable[[torch.Tensor, torch.Tensor], None], num: int) -> int:
    images_done = 0
    for _ in range(num):
        images, labels = next(batches)
        step(images, labels)
        images_done += len(images)
    return images_done
