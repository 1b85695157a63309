"""What is measured beside the path: details, runs that differ by one part, latencies, interference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastpipe.decode import read
from fastpipe.device import DeviceStage
from fastpipe.profiling.measure.details import cold_read, detail_stages
from fastpipe.profiling.measure.differential import Level, Stall, stalls, time_cold, time_level
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.interference import Point, interference
from fastpipe.profiling.measure.latency import Latency, time_latency
from fastpipe.profiling.measure.model import ModelStep
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import measure
from fastpipe.profiling.measure.workload import Workload
from fastpipe.transforms.step_table import step_of
from fastpipe.types import Plan

__all__ = ["PARTS", "Explored", "explore"]

PARTS = ("details", "differential runs", "cold files", "latency", "interference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """See the modules of the parts. epoch_images: files of the data set, which the stalls are of.

    unmeasured: details that this machine or run has not, with the reason.
    """

    details: tuple[StageResult, ...]
    unmeasured: tuple[tuple[str, str], ...]
    levels: tuple[Level, ...]
    stalls: tuple[Stall, ...]
    epoch_images: int
    latency: Latency
    interference: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def pillow_randaugment_ms(self) -> float | None:
        """CPU-ms per image of one operation in a worker."""
        return self._cpu_ms("RandAugment, Pillow")

    @property
    def saved_by_device(self) -> float | None:
        """CPU-ms per image that RandAugment costs more in a worker than on the device."""
        pillow, device = self.pillow_randaugment_ms, self.device_ms("RandAugment")
        return None if pillow is None or device is None else pillow - device

    @property
    def stall(self) -> float | None:
        """The share of a warm epoch that the training waits for its loader, 0..1; None without levels."""
        rates = {level.name: level.timing.images_per_s.median for level in self.levels}
        if not {"model", "warm"} <= set(rates):
            return None
        return max(0.0, 1.0 - rates["warm"] / rates["model"])

    def device_ms(self, name: str) -> float | None:
        """CPU-ms per image that one augmentation adds to the plain device stage, at least 0."""
        more, plain = self._cpu_ms(f"device stage + {name}"), self._cpu_ms("device stage, plain")
        return None if more is None or plain is None else max(0.0, more - plain)

    def read_ms(self, name: str) -> float:
        """Wall-ms per image of a detail."""
        return next(stage.timing.wall_ms for stage in self.details if stage.name == name)

    def _cpu_ms(self, name: str) -> float | None:
        found = [stage.timing.cpu_ms.median for stage in self.details if stage.name == name]
        return found[0] if found else None


def explore(
    inputs: Inputs,
    base: Plan,
    plan: Plan,
    step: Callable[[torch.Tensor, torch.Tensor], None],
    *,
    make: Callable[[int, int], Any],
    workload: Workload,
    device: torch.device,
    memory_format: Any,
    batch_size: int,
    loader_batch_size: int,
    window: int,
    cpus: float,
    model: StageResult,
    warm: StageResult,
    announce: Callable[[str], None],
) -> Explored:
    """Measure it. base: the plan without the recipe's augmentations.

    make: a loader of the profiled kind, from batch size and number of batches.
    """
    seconds = workload.seconds
    announce("details")
    short_s = seconds / 4
    cold = cold_read(inputs, short_s, read)
    batch = min(loader_batch_size, 64)
    found, unmeasured = detail_stages(inputs, base, batch_size=batch, device=device, quick=workload.quick)
    details = [stage.time(short_s) for stage in found]
    announce("differential runs")
    levels = [Level(name="model", timing=model.timing)]
    between = (
        ()
        if workload.quick
        else (
            ("+ loader", False, _without_draws(plan)),
            ("+ decode", True, _without_draws(plan)),
            ("+ augment", True, plan),
        )
    )
    for name, decode, steps in between:
        stage = DeviceStage(steps, device=device, memory_format=memory_format, num_classes=inputs.num_classes)
        stage.warm_up()
        timing = time_level(
            inputs,
            plan,
            stage,
            step,
            decode=decode,
            batch_size=batch_size,
            workers=workload.workers,
            seconds=seconds,
            window=window,
        )
        levels.append(Level(name=name, timing=timing))
    levels.append(Level(name="warm", timing=warm.timing))
    announce("cold files")
    if not workload.quick:
        batches = _cold_batches(len(inputs.samples), batch_size, warm, seconds)
        levels.append(Level(name="cold", timing=time_cold(inputs, make(batch_size, batches), step, seconds)))
    announce("latency")
    latency = time_latency(make(loader_batch_size, 4 * max(1, workload.workers)), seconds / 2)
    announce("interference")
    return Explored(
        details=(cold, *details),
        unmeasured=unmeasured,
        levels=tuple(levels),
        stalls=stalls(levels, len(inputs.index)),
        epoch_images=len(inputs.index),
        latency=latency,
        interference=() if workload.quick else _interference(inputs, step, batch_size, cpus, seconds),
        notes=tuple(_notes(cold, details, inputs, step)),
    )


def _without_draws(plan: Plan) -> Plan:
    """Cast and normalise, and what changes the size that the model gets."""
    steps = [(spec, step_of(spec)) for spec in plan.device]
    return replace(plan, device=tuple(spec for spec, step in steps if step.resizes or not step.drawn))


def _cold_batches(files: int, batch_size: int, warm: StageResult, seconds: float) -> int:
    """As many batches as the sampled files fill once, or as the time allows."""
    allowed = warm.timing.images_per_s.median * seconds / 3 / batch_size
    return max(2, min(files // batch_size, round(allowed)))


def _interference(
    inputs: Inputs, step: Callable[..., None], batch_size: int, cpus: float, seconds: float
) -> tuple[Point, ...]:
    """Nothing where no model was run."""
    if not isinstance(step, ModelStep):
        return ()
    images, labels = step.synthetic(batch_size)

    def unit() -> int:
        step(images, labels)
        return batch_size

    measure(unit, 0.0, min_repeats=1)
    return interference(inputs, unit, cpus, seconds / 2)


def _notes(cold: StageResult, details: list[StageResult], inputs: Inputs, step: Any) -> list[str]:
    notes = []
    if not isinstance(step, ModelStep):
        notes.append("Interference was not measured: no model was run.")
    if cold.timing.cpu_ms.median > 0.7 * cold.timing.wall_ms:
        notes.append(
            "Cold reads took no longer than a processor needs for them: this storage is memory or caches "
            "what posix_fadvise does not empty, so figures of cold files are those of warm ones."
        )
    return notes
