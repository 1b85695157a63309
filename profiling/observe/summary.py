"""From waits and records to figures: per loader, per stage, per step. Pure; times in ms where they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from fastpipe.profiling.observe.records import Batch, ProcessLog
from fastpipe.profiling.observe.waits import LoaderFacts, Wait

__all__ = ["LoaderSummary", "StageSummary", "Summary", "summarise"]

_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSummary:
    """A stage's own time, ms per image: what one worker spends on it, without stages inside it.

    wall_ms is the mean. cost_ms is the CPU time and the median over calls of the rest, the time without a
    CPU: a stage that sleeps or reads has its wait in it, one that lost its CPU for a while has not.
    """

    name: str
    wall_ms: float
    cost_ms: float
    cpu_ms: float
    calls_per_image: float
    where: str  # "worker", "main", "feeder thread" or "pin thread"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderSummary:
    """One DataLoader. Waits and work are of the steps in the window, first batches of epochs left out.

    wait_ms and work_ms are means; `exposed_ms` is the wait without that which a busy GPU hid. worker_ms is
    what one worker (or the main process, with num_workers=0) takes for a batch.
    """

    facts: LoaderFacts
    steps: int
    images_per_batch: float
    wait_ms: float
    exposed_ms: float
    wait_p50_ms: float
    wait_p99_ms: float
    work_ms: float
    transfer_ms: float
    first_batch_ms: float | None
    epoch_gaps_ms: tuple[float, ...]
    stages: tuple[StageSummary, ...]
    batches_timed: int
    worker_ms: float
    worker_cpu_ms: float
    workers_seen: int
    workers_torn: int

    @property
    def step_ms(self) -> float:
        """From one batch to the next, without the loader's epoch starts."""
        return self.wait_ms + self.work_ms

    @property
    def cost_ms(self) -> float:
        """What one image costs where its batch is made, without pickling and pinning."""
        return sum(stage.cost_ms for stage in self.stages if stage.where in {"worker", "main"})

    @property
    def time_ms(self) -> float:
        """All its steps together."""
        return self.steps * self.step_ms

    @property
    def images_per_s(self) -> float:
        """The rate of these steps."""
        return 1000 * self.images_per_batch / self.step_ms if self.step_ms else 0.0

    @property
    def waiting(self) -> float:
        """The share of a step that the script waits for data, with nothing else under way."""
        return self.exposed_ms / self.step_ms if self.step_ms else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The window. own_share is what observing cost, of a step's time: in the main process and in workers."""

    loaders: tuple[LoaderSummary, ...]
    warmed_up: bool
    steps: int
    seconds: float
    own_main_share: float
    own_worker_share: float

    @property
    def main(self) -> LoaderSummary | None:
        """The loader that the script spends most time with."""
        return max(self.loaders, key=lambda loader: loader.time_ms, default=None)


def summarise(
    waits: Sequence[Wait],
    loaders: dict[int, LoaderFacts],
    logs: Sequence[ProcessLog],
    *,
    warmup: int,
    end: int,
    pins: Sequence[tuple[int, int]] = (),
) -> Summary:
    """Figures of the steps after `warmup`; of all steps if the script ended before it was over.

    end is when the last step's work ended, ns.
    """
    warmed_up = len(waits) > warmup
    window = list(waits[warmup:] if warmed_up else waits)
    begin = window[0].start if window else end
    found = [
        _loader(facts, waits, window, logs, begin=begin, end=end, pins=pins)
        for number, facts in sorted(loaders.items())
        if any(wait.loader == number for wait in window)
    ]
    span = max(end - begin, 1)
    return Summary(
        loaders=tuple(found),
        warmed_up=warmed_up,
        steps=len(window),
        seconds=span / 1e9,
        own_main_share=sum(wait.own for wait in window) / span,
        own_worker_share=_own_share(logs, waits),
    )


def _own_share(logs: Sequence[ProcessLog], waits: Sequence[Wait]) -> float:
    """The hooks' time as they timed it, of the time of all batches delivered, timed or not."""
    batches = [batch for log in logs for batch in log.batches]
    if not batches:
        return 0.0
    each = sum(batch.wall for batch in batches) / len(batches)
    return sum(batch.hooks for batch in batches) / (each * max(len(batches), len(waits)))


def _loader(
    facts: LoaderFacts,
    waits: Sequence[Wait],
    window: Sequence[Wait],
    logs: Sequence[ProcessLog],
    *,
    begin: int,
    end: int,
    pins: Sequence[tuple[int, int]],
) -> LoaderSummary:
    own = [wait for wait in window if wait.loader == facts.number]
    steady = [wait for wait in own if wait.since_epoch_start is None] or own
    lengths = np.array([(wait.end - wait.start) / _MS for wait in steady])
    exposed = [0.0 if wait.hidden else (wait.end - wait.start) / _MS for wait in steady]
    work = [((wait.next_start or end) - wait.end) / _MS for wait in steady]
    starts = [w for w in waits if w.loader == facts.number and w.since_epoch_start is not None]
    gaps = [(w.since_epoch_start or 0) / _MS for w in starts]
    mine = [log for log in logs if log.loader == facts.number or log.loader == -1]
    batches = _timed(mine, facts.number, begin, end)
    samples = sum(batch.samples for batch in batches)
    per_batch = samples / len(batches) if batches else float(facts.batch_size or 1)
    stages = _stages(batches, "worker" if facts.num_workers else "main")
    stages += _pickling([log for log in mine if log.worker >= 0], per_batch)
    stages += _pinning(pins, begin, end, per_batch) if facts.pin_memory else []
    torn = [log for log in mine if log.worker >= 0 and log.torn]
    return LoaderSummary(
        facts=facts,
        steps=len(own),
        images_per_batch=per_batch,
        wait_ms=float(lengths.mean()),
        exposed_ms=sum(exposed) / len(exposed),
        wait_p50_ms=float(np.percentile(lengths, 50)),
        wait_p99_ms=float(np.percentile(lengths, 99)),
        work_ms=sum(work) / len(work),
        transfer_ms=sum(wait.transfer for wait in steady) / len(steady) / _MS,
        first_batch_ms=gaps[0] if gaps and starts[0].epoch == 0 else None,
        epoch_gaps_ms=tuple(gap for gap, wait in zip(gaps, starts, strict=True) if wait.epoch > 0),
        stages=tuple(sorted(stages, key=lambda stage: -stage.cost_ms)),
        batches_timed=len(batches),
        worker_ms=sum(batch.wall for batch in batches) / max(len(batches), 1) / _MS,
        worker_cpu_ms=sum(batch.cpu for batch in batches) / max(len(batches), 1) / _MS,
        workers_seen=len({log.worker for log in mine if log.worker >= 0 and log.batches}),
        workers_torn=len(torn),
    )


def _timed(logs: Sequence[ProcessLog], loader: int, begin: int, end: int) -> list[Batch]:
    """The batches made within the window; where all were made before it, prefetched, those."""
    every = [batch for log in logs for batch in log.batches if batch.loader == loader]
    inside = [batch for batch in every if begin <= batch.start and batch.start + batch.wall <= end]
    return inside or every


def _stages(batches: Sequence[Batch], where: str) -> list[StageSummary]:
    samples = max(sum(batch.samples for batch in batches), 1)
    names = sorted({name for batch in batches for name in batch.stages})
    found = []
    for name in names:
        costs = [batch.stages[name] for batch in batches if name in batch.stages]
        cpu = sum(cost.cpu for cost in costs) / samples / _MS
        found.append(
            StageSummary(
                name=name,
                wall_ms=sum(cost.wall for cost in costs) / samples / _MS,
                cost_ms=cpu + _off_cpu(name, batches),
                cpu_ms=cpu,
                calls_per_image=sum(cost.calls for cost in costs) / samples,
                where=where,
            )
        )
    return found


def _off_cpu(name: str, batches: Sequence[Batch]) -> float:
    """The median over batches of the median over calls of the time without a CPU, per image; ms."""
    costs = [(batch.stages.get(name), max(batch.samples, 1)) for batch in batches]
    return median(0.0 if cost is None else cost.off * cost.calls / num for cost, num in costs) / _MS


def _pickling(logs: Sequence[ProcessLog], per_batch: float) -> list[StageSummary]:
    """The median object: the first ones of a worker are packed while it starts."""
    pickles = [pickle for log in logs for pickle in log.pickles]
    if not pickles:
        return []
    wall, cpu = median(pickle.wall for pickle in pickles), median(pickle.cpu for pickle in pickles)
    return [
        StageSummary(
            name="pickle",
            wall_ms=wall / per_batch / _MS,
            cost_ms=wall / per_batch / _MS,
            cpu_ms=cpu / per_batch / _MS,
            calls_per_image=1 / per_batch,
            where="feeder thread",
        )
    ]


def _pinning(pins: Sequence[tuple[int, int]], begin: int, end: int, per_batch: float) -> list[StageSummary]:
    walls = [wall for start, wall in pins if begin <= start <= end]
    if not walls:
        return []
    cost = median(walls) / per_batch / _MS
    return [
        StageSummary(
            name="pin",
            wall_ms=cost,
            cost_ms=cost,
            cpu_ms=cost,
            calls_per_image=1 / per_batch,
            where="pin thread",
        )
    ]
