"""From waits and records to figures: per loader, per stage, per step. Pure functions; results are in ms."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, stdev

import numpy as np
import numpy.typing as npt

from fastpipe.profiling.measure.timing import Spread, student
from fastpipe.profiling.observe.loaders import LoaderFacts
from fastpipe.profiling.observe.ours import DevicePass
from fastpipe.profiling.observe.records import Batch, ProcessLog
from fastpipe.profiling.observe.steps import Wait

_MS = 1e6
_FEWEST = 8  # the fewest steps for an interval
_BLOCKS = 10
_NAMES = {"training": "train", "evaluation": "val|test"}
_ORDER = ("evaluation", "unknown", "training")

MAKERS = ("worker", "thread", "main")
"""Where batches are made: a worker process, a thread of the script's process, the script itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSummary:
    """A stage's own time in ms per image: the time one worker spends on it, without stages inside it.

    wall_ms is the mean. cost_ms is the CPU time plus the median over calls of the time without a CPU: this
    includes the wait of a stage that sleeps or reads, but not the time of a stage that lost its CPU.
    """

    name: str
    wall_ms: float
    cost_ms: float
    cpu_ms: float
    calls_per_image: float
    where: str  # one of MAKERS, or "feeder thread", "pin thread", "device thread"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderSummary:
    """One DataLoader. Waits and work cover the steps in the window, without first batches of epochs.

    wait_ms and work_ms are means; `exposed_ms` is the wait that no busy GPU hid. worker_ms is the time of one
    worker (or of the main process, with num_workers=0) for a batch. rates is images/s with its 95 % interval,
    by blocks of steps. stepped: the share of its steps in which an optimizer stepped. graded: the share of
    its batches that were requested while gradients were recorded.
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
    rates: Spread | None = None
    stepped: float = 0.0
    graded: float = 1.0

    @property
    def role(self) -> tuple[str, str]:
        """ "training", "evaluation" or "unknown", and what shows it."""
        if self.stepped:
            return "training", "an optimizer steps on its batches"
        if self.graded < 0.5:
            return "evaluation", "gradients are off"
        named = next(
            (use for use, sign in _NAMES.items() if re.search(sign, self.facts.target.lower())), None
        )
        if named is not None:
            return named, f"it is called {self.facts.target}"
        if self.facts.shuffles:
            return "training", "it shuffles"
        return "unknown", "no optimizer step was seen, and it does not shuffle"

    @property
    def step_ms(self) -> float:
        """From one batch to the next, without the loader's epoch starts."""
        return self.wait_ms + self.work_ms

    @property
    def cost_ms(self) -> float:
        """The cost of one image in the process that makes its batch, without pickling and pinning."""
        return sum(stage.cost_ms for stage in self.stages if stage.where in MAKERS)

    @property
    def images_per_s(self) -> float:
        """The rate of these steps."""
        return 1000 * self.images_per_batch / self.step_ms if self.step_ms else 0.0

    @property
    def waiting(self) -> float:
        """The share of a step that the script waits for data while nothing else runs."""
        return self.exposed_ms / self.step_ms if self.step_ms else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The window. own_share is the cost of observing as a share of the time, in the main process and workers.

    loaders: those for training first, then in the order of their first use.
    """

    loaders: tuple[LoaderSummary, ...]
    warmed_up: bool
    steps: int
    seconds: float
    own_main_share: float
    own_worker_share: float

    @property
    def main(self) -> LoaderSummary | None:
        """The first loader of the verdict."""
        return self.loaders[0] if self.loaders else None


def summarise(
    waits: Sequence[Wait],
    loaders: dict[int, LoaderFacts],
    logs: Sequence[ProcessLog],
    *,
    warmup: int,
    end: int,
    pins: Sequence[tuple[int, int]] = (),
    device: Sequence[DevicePass] = (),
) -> Summary:
    """Figures of the steps after `warmup`; of all steps if the script ended before it was over.

    end is when the last step's work ended, ns.
    """
    warmed_up = len(waits) > warmup
    window = list(waits[warmup:] if warmed_up else waits)
    begin = window[0].start if window else end
    found = [
        _loader(facts, waits, window, logs, begin=begin, end=end, pins=pins, device=device)
        for number, facts in sorted(loaders.items())
        if any(wait.loader == number for wait in window)
    ]
    span = max(end - begin, 1)
    return Summary(
        loaders=tuple(sorted(found, key=_first, reverse=True)),
        warmed_up=warmed_up,
        steps=len(window),
        seconds=span / 1e9,
        own_main_share=sum(wait.own for wait in window) / span,
        own_worker_share=_own_share(logs, waits),
    )


def _first(loader: LoaderSummary) -> tuple[int, bool, bool, int]:
    """The greatest is the training loader; of equals, the one used first."""
    facts = loader.facts
    return _ORDER.index(loader.role[0]), loader.stepped > 0, facts.shuffles, -facts.number


def _own_share(logs: Sequence[ProcessLog], waits: Sequence[Wait]) -> float:
    """The hooks' own time as a share of the time of all delivered batches, timed or not."""
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
    device: Sequence[DevicePass],
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
    per_batch = _per_batch(facts, steady, batches)
    making = "main" if not facts.num_workers else "thread" if facts.threads else "worker"
    stages = _stages(batches, making)
    stages += _pickling([log for log in mine if log.worker >= 0], per_batch)
    stages += _pinning(pins, begin, end, per_batch) if facts.pin_memory else []
    passes = [row for row in device if row[0] in (facts.number, None) and begin <= row[1] <= end]
    stages += _device(passes, "device thread" if facts.num_workers else "main") if facts.ours else []
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
        rates=_rates(lengths, work, per_batch),
        stepped=sum(wait.stepped for wait in own) / len(own),
        graded=sum(wait.grad for wait in own) / len(own),
    )


def _per_batch(facts: LoaderFacts, steps: Sequence[Wait], batches: Sequence[Batch]) -> float:
    """Images in a batch of these steps: as delivered, or as counted when the timed batches were made."""
    delivered = [wait.images for wait in steps if wait.images is not None]
    most = facts.batch_size or 0
    if facts.batched and len(delivered) == len(steps) and max(delivered) <= most:
        return sum(delivered) / len(delivered)
    # A collate function may give another form, and an IterableDataset without batches gives samples.
    samples = sum(batch.samples for batch in batches)
    return samples / len(batches) if batches else float(facts.batch_size or 1)


def _rates(waits: npt.ArrayLike, work: npt.ArrayLike, per_batch: float) -> Spread | None:
    """images/s with its 95 % interval, each block of consecutive steps a repeat; None for too few steps."""
    steps = np.asarray(waits) + np.asarray(work)
    if len(steps) < _FEWEST or not steps.mean() > 0:
        return None
    blocks = [float(block.mean()) for block in np.array_split(steps, min(_BLOCKS, len(steps) // 2))]
    half = student(len(blocks) - 1) * stdev(blocks) / math.sqrt(len(blocks))
    rate, share = 1000 * per_batch / float(steps.mean()), 1 + half / float(steps.mean())
    return Spread(median=rate, low=rate / share, high=rate * share)


def _timed(logs: Sequence[ProcessLog], loader: int, begin: int, end: int) -> list[Batch]:
    """The batches made within the window; if all were prefetched before it, those."""
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


def _device(passes: Sequence[DevicePass], where: str) -> list[StageSummary]:
    """The device stage, by the host's clock."""
    images = sum(row[4] for row in passes)
    if not images:
        return []
    cpu, wall = sum(row[3] for row in passes) / images / _MS, sum(row[2] for row in passes) / images / _MS
    off = median(max(0, row[2] - row[3]) / max(row[4], 1) for row in passes) / _MS
    return [
        StageSummary(
            name="device stage",
            wall_ms=wall,
            cost_ms=cpu + off,
            cpu_ms=cpu,
            calls_per_image=len(passes) / images,
            where=where,
        )
    ]
