"""Runs that differ by one part each, as in DS-Analyzer: the time that a part adds is its stall.

    model        the step on synthetic images
    + loader     workers hand over ready pixels, the device stage casts them
    + decode     the workers decode files held in memory, crop and resize
    + augment    the device stage also flips and augments
    warm         the loader, files in the page cache
    cold         the loader, files that the page cache was asked to drop

J. Mohan et al., Analyzing and Mitigating Data Stalls in DNN Training, VLDB 2021, has three of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.data

from fastpipe.batch import WorkerOptions, WorkerPool
from fastpipe.batch.buffer import allocate
from fastpipe.decode import crop_and_resize, decode_rgb
from fastpipe.decode.pillow import pixels
from fastpipe.device import DeviceStage
from fastpipe.profiling.host.disk import forget
from fastpipe.profiling.measure.inputs import Cycle, Inputs
from fastpipe.profiling.measure.stages import packed, stream_of
from fastpipe.profiling.measure.timing import Budget, Repeat, Spread, Stopwatch, Timing, summarize
from fastpipe.profiling.names import Id, words
from fastpipe.types import HostBatch, Plan, Request

Step = Callable[[torch.Tensor, torch.Tensor], None]

_MANY = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One of the runs; `timing` is of the whole process tree."""

    id: Id
    timing: Timing

    @property
    def name(self) -> str:
        """What reports call it."""
        return words(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """What one part adds to an epoch: seconds, with 95 % interval, and its share of the last run's epoch.

    Negative if the longer run was the faster one: this shows the size of the noise.
    """

    id: Id
    seconds: Spread
    share: float

    @property
    def name(self) -> str:
        """What reports call it."""
        return words(self.id)


class Paced:
    """A consumer that takes `rate` images/s and no CPU: a GPU seen from the host."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_s = 0.0

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Return when the step would be over; a late batch starts its step when it arrives."""
        now_s = time.perf_counter()
        # A sleep ends 0.1 ms late: the next step is shorter by that, unless the batch itself was late.
        start_s = self._free_s if now_s - self._free_s < 0.001 else now_s
        self._free_s = start_s + len(images) / self._rate
        time.sleep(max(0.0, self._free_s - time.perf_counter()))


class _Staged(torch.utils.data.Dataset[HostBatch]):
    """A worker's batch of the sampled images: ready pixels, or decoded from bytes in memory."""

    def __init__(self, inputs: Inputs, plan: Plan, batch: HostBatch, decode: bool) -> None:
        self._samples, self._plan, self._batch, self._decode = inputs.samples, plan, batch, decode
        self.dataset = self

    def __getitem__(self, request: Request) -> HostBatch:
        images = allocate(*self._batch.images.shape[:3])
        if not self._decode:
            images.copy_(self._batch.images)
            return HostBatch(images=images, labels=self._batch.labels.clone(), request=request)
        for place, drawn in enumerate(request.ids.tolist()):
            sample = self._samples[drawn % len(self._samples)]
            image = decode_rgb(sample.data, sample.path)
            images[place].numpy()[...] = pixels(crop_and_resize(image, self._plan.decode, sample.draws))
        return HostBatch(images=images, labels=self._batch.labels.clone(), request=request)


def time_level(
    inputs: Inputs,
    plan: Plan,
    stage: DeviceStage,
    step: Step,
    *,
    decode: bool,
    batch_size: int,
    workers: int,
    seconds: float,
    window: int,
) -> Timing:
    """Ready or decoded batches through the device stage into the step, in steady state."""
    batch = packed(inputs, batch_size)
    work = _Staged(inputs, plan, batch, decode)
    sampler = Cycle(list(range(len(inputs.samples))), _MANY * batch_size)
    requests = torch.utils.data.BatchSampler(sampler, batch_size, drop_last=True)
    if workers == 0:
        batches: Iterator[Any] = iter(work[request] for request in stream_of(requests))
        return _steady(batches, stage, step, seconds, window)
    pool = WorkerPool(work, WorkerOptions(num_workers=workers))
    batches = pool.start(stream_of(requests))
    try:
        return _steady(batches, stage, step, seconds, window)
    finally:
        del batches
        pool.close()


def _steady(batches: Iterator[Any], stage: DeviceStage, step: Step, seconds: float, window: int) -> Timing:
    def some(num: int) -> int:
        done = 0
        for _ in range(num):
            out = stage(next(batches))
            step(out.images, out.labels)
            done += len(out.images)
        return done

    return steady(some, seconds, window)


def steady(some: Callable[[int], int], seconds: float, window: int) -> Timing:
    """`some(n)` does n steps and returns the images. The start is dropped, then windows are timed."""
    some(1 + window)
    budget = Budget(seconds, 3)
    repeats: list[Repeat] = []
    while budget.allows(len(repeats)):
        watch = Stopwatch()
        repeats.append(watch.stop(some(window)))
    return summarize(repeats)


def time_cold(inputs: Inputs, loader: Any, step: Step, seconds: float) -> Timing:
    """Whole epochs of the loader into the step, the files evicted before each; the first epoch is dropped."""
    repeats: list[Repeat] = []
    budget = Budget(seconds, 3)
    turn = 0
    while turn == 0 or budget.allows(len(repeats)):
        for sample in inputs.samples:
            forget(sample.path)
        images, watch = 0, Stopwatch()
        for batch, labels in loader:
            step(batch, labels)
            images += len(batch)
        if turn > 0:
            repeats.append(watch.stop(images))
        turn += 1
    return summarize(repeats)


def stalls(levels: Sequence[Level], images: int) -> tuple[Stall, ...]:
    """The extra time of each run compared with the previous one, over an epoch of `images`."""
    per_image = [_seconds(level.timing) for level in levels]
    whole = max(per_image[-1].median, 1e-12)
    found = []
    for level, now, before in zip(levels[1:], per_image[1:], per_image, strict=False):
        delta = now.median - before.median
        half = (((now.high - now.low) / 2) ** 2 + ((before.high - before.low) / 2) ** 2) ** 0.5
        spread = Spread(median=delta * images, low=(delta - half) * images, high=(delta + half) * images)
        found.append(Stall(id=level.id, seconds=spread, share=delta / whole))
    return tuple(found)


def _seconds(timing: Timing) -> Spread:
    rate = timing.interval
    return Spread(median=1.0 / rate.median, low=1.0 / rate.high, high=1.0 / rate.low)
