"""The stages, each alone on inputs prepared in advance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fastpipe.batch import Drawer, FolderWork, RequestStream, WorkerOptions, WorkerPool
from fastpipe.batch.buffer import allocate, collate_labels
from fastpipe.decode import crop_and_resize, decode_rgb, read
from fastpipe.decode.pillow import pixels
from fastpipe.device import DeviceStage
from fastpipe.profiling import names
from fastpipe.profiling.conclude.verdict import Lane
from fastpipe.profiling.measure.device_wait import wait_for
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.timing import Spread, Timing, measure
from fastpipe.profiling.names import Id, words
from fastpipe.transforms.step_table import word_for
from fastpipe.types import HostBatch, Plan, Request

_HOP_BATCHES = 8
_IN_HOST_HALF = (names.READ, names.DECODE, names.CROP, names.ASSEMBLY)
_NOTICEABLE = 0.02
# A page of memory: the receiver maps a shared batch by touching one byte of each page.
_PAGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A piece of work that can be timed: `unit` does some images and returns how many. tree: others work too.

    lane is None for what runs several stages together.
    """

    id: Id
    lane: Lane | None
    what: str
    unit: Callable[[], int]
    tree: bool = False
    close: Callable[[], None] = field(default=lambda: None)

    def time(self, seconds: float) -> StageResult:
        """Time it for about `seconds`."""
        try:
            timing = measure(self.unit, seconds, tree=self.tree)
        finally:
            self.close()
        return StageResult(id=self.id, lane=self.lane, what=self.what, timing=timing)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """A timed stage. lane is None for what runs several stages together."""

    id: Id
    lane: Lane | None
    what: str
    timing: Timing

    @property
    def name(self) -> str:
        """What reports call it."""
        return words(self.id)


def loader_stages(
    inputs: Inputs, plan: Plan, *, batch_size: int, workers: int, device: torch.device, memory_format: Any
) -> list[Callable[[], Stage]]:
    """The makers of each stage of the loader, in path order; called late, since some start processes."""
    batch = packed(inputs, batch_size)
    stages: list[Callable[[], Stage]] = [
        lambda: _read(inputs),
        lambda: _decode(inputs),
        lambda: _crop(inputs, plan),
        lambda: _assembly(inputs, batch_size),
        lambda: _device(batch, plan, device, memory_format, inputs.num_classes),
    ]
    if workers > 0:
        stages.insert(4, lambda: _hop(batch))
    return stages


def _read(inputs: Inputs) -> Stage:
    def unit() -> int:
        for sample in inputs.samples:
            read(sample.path)
        return len(inputs.samples)

    return Stage(id=names.READ, lane="worker", what="file bytes, warm page cache", unit=unit)


def _decode(inputs: Inputs) -> Stage:
    def unit() -> int:
        for sample in inputs.samples:
            decode_rgb(sample.data, sample.path)
        return len(inputs.samples)

    return Stage(id=names.DECODE, lane="worker", what="bytes to RGB, Pillow", unit=unit)


def _crop(inputs: Inputs, plan: Plan) -> Stage:
    def unit() -> int:
        for sample in inputs.samples:
            crop_and_resize(sample.image, plan.decode, sample.draws)
        return len(inputs.samples)

    return Stage(id=names.CROP, lane="worker", what="random box, one resize", unit=unit)


def _assembly(inputs: Inputs, batch_size: int) -> Stage:
    def unit() -> int:
        packed(inputs, batch_size)
        return batch_size

    return Stage(id=names.ASSEMBLY, lane="worker", what="uint8 [B,H,W,3] and labels", unit=unit)


def packed(inputs: Inputs, batch_size: int) -> HostBatch:
    """The fetched crops, as many as `batch_size`, in one buffer, as a worker packs them."""
    samples = [inputs.samples[place % len(inputs.samples)] for place in range(batch_size)]
    first = samples[0].crop
    images = allocate(batch_size, first.height, first.width)
    labels = []
    for place, sample in enumerate(samples):
        images[place].numpy()[...] = pixels(sample.crop)
        labels.append(inputs.index.label(sample.id))
    request = _request(np.array([sample.id for sample in samples], dtype=np.int64))
    return HostBatch(images=images, labels=collate_labels(labels), request=request)


def _request(ids: Any) -> Request:
    return Request(seed=0, epoch=0, batch=0, ids=ids, repeats=np.zeros_like(ids))


def _device(batch: HostBatch, plan: Plan, device: torch.device, memory_format: Any, classes: int) -> Stage:
    stage = DeviceStage(plan, device=device, engine="fused", memory_format=memory_format, num_classes=classes)
    stage.warm_up()
    host = batch.pin_memory() if device.type == "cuda" else batch

    def unit() -> int:
        stage(host)
        wait_for(device)
        return len(batch.images)

    steps = [word_for(spec) for spec in plan.device]
    what = ", ".join(["transfer", *steps] if device.type == "cuda" else steps)
    return Stage(id=names.DEVICE, lane="main", what=what, unit=unit)


class _ReadyBatches(torch.utils.data.Dataset[HostBatch]):
    """A worker's batch without its work: a shared buffer, filled by one memset."""

    def __init__(self, batch: HostBatch) -> None:
        self._shape = tuple(batch.images.shape)
        self._labels = batch.labels
        self.dataset = self  # what the pool shows to a worker_init_fn

    def __getitem__(self, request: Request) -> HostBatch:
        num, height, width, _ = self._shape
        return HostBatch(
            images=allocate(num, height, width).fill_(1), labels=self._labels.clone(), request=request
        )


def _hop(batch: HostBatch) -> Stage:
    """A worker process hands over packed batches, and the receiver touches every page of them."""
    size = len(batch.images)
    pool = WorkerPool(_ReadyBatches(batch), WorkerOptions(num_workers=1, persistent_workers=True))

    def unit() -> int:
        requests = [batch.request.ids.tolist()] * _HOP_BATCHES
        for received in pool.start(stream_of(requests)):
            received.images.view(-1)[::_PAGE].sum()
        return _HOP_BATCHES * size

    return Stage(
        id=names.HOP,
        lane="worker",
        what="shared memory, from 1 worker",
        unit=unit,
        tree=True,
        close=pool.close,
    )


def stream_of(batches: Any) -> RequestStream:
    """Requests for lists of ids, one list a batch."""
    return RequestStream(Drawer(batches, seed=0, epoch=0, resolution=_own_size))


def _own_size(epoch: int, batch: int) -> None:
    return None


def whole_host_half(inputs: Inputs, plan: Plan, batch_size: int) -> Stage:
    """Read to packed batch by the loader's own worker code, in this process: one core."""
    work = FolderWork(inputs.dataset(), plan, reseed=False)
    requests = _endless(inputs.ids, batch_size)

    def unit() -> int:
        return len(work[_request(next(requests))].request.ids)

    return Stage(id=names.HOST_HALF, lane=None, what="read to packed batch", unit=unit)


def overhead(host_half: StageResult, stages: Sequence[StageResult]) -> StageResult | None:
    """The time of the worker's code outside its stages (index, draws, colder caches); None below 2 %."""
    parts = [stage.timing for stage in stages if stage.id in _IN_HOST_HALF]
    wall_ms = host_half.timing.wall_ms - sum(part.wall_ms for part in parts)
    cpu_ms = max(0.0, host_half.timing.cpu_ms.median - sum(part.cpu_ms.median for part in parts))
    if wall_ms < _NOTICEABLE * host_half.timing.wall_ms:
        return None
    rate = 1000.0 / wall_ms
    timing = Timing(
        images_per_s=Spread(median=rate, low=rate, high=rate),
        cpu_ms=Spread(median=cpu_ms, low=cpu_ms, high=cpu_ms),
        repeats=host_half.timing.repeats,
        images=host_half.timing.images,
    )
    return StageResult(id=names.OVERHEAD, lane="worker", what="host half less its stages", timing=timing)


def _endless(ids: list[int], batch_size: int) -> Iterator[Any]:
    start = 0
    while True:
        yield np.array([ids[(start + place) % len(ids)] for place in range(batch_size)], dtype=np.int64)
        start += batch_size
