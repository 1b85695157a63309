"""Measurements outside the path: details, runs that differ by one part, latencies, interference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fastpipe.decode import read
from fastpipe.device import DeviceStage
from fastpipe.profiling import names
from fastpipe.profiling.measure.details import cold_read, detail_stages
from fastpipe.profiling.measure.differential import Level, Stall, stalls, time_cold, time_level
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.interference import Point, interference
from fastpipe.profiling.measure.latency import Latency, time_latency
from fastpipe.profiling.measure.loaders import Loaders
from fastpipe.profiling.measure.model import ModelStep, Step
from fastpipe.profiling.measure.setting import Setting
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import measure
from fastpipe.profiling.names import Id
from fastpipe.transforms.step_table import step_of
from fastpipe.types import Plan

MakeLoader = Callable[[int, int], Any]

_LARGEST_DETAIL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The path, alone and together. window: steps in a repeat of loader and model."""

    host_half: StageResult
    stages: tuple[StageResult, ...]
    loaders: Loaders
    model_batch: int
    together: StageResult
    window: int

    @property
    def ours(self) -> StageResult:
        """fastpipe's loader."""
        return self.loaders.found[names.OURS]

    @property
    def model(self) -> StageResult:
        """The model step, which is the last stage."""
        return self.stages[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """See the modules of the parts. epoch_images: files of the data set, the epoch that the stalls refer to.

    unmeasured: details that this machine or run lacks, with the reason.
    """

    details: tuple[StageResult, ...]
    unmeasured: tuple[tuple[Id, str], ...]
    levels: tuple[Level, ...]
    stalls: tuple[Stall, ...]
    epoch_images: int
    latency: Latency
    interference: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def pillow_randaugment_ms(self) -> float | None:
        """CPU-ms per image of one operation in a worker."""
        return self._cpu_ms(names.PILLOW_RANDAUGMENT)

    @property
    def saved_by_device(self) -> float | None:
        """The extra CPU-ms per image of RandAugment in a worker, compared with the device."""
        pillow, device = self.pillow_randaugment_ms, self.device_ms("RandAugment")
        return None if pillow is None or device is None else pillow - device

    @property
    def stall(self) -> float | None:
        """The share of a warm epoch that the training waits for its loader, 0..1; None without levels."""
        rates = {level.id: level.timing.images_per_s.median for level in self.levels}
        if not {names.MODEL_ALONE, names.WARM} <= set(rates):
            return None
        return max(0.0, 1.0 - rates[names.WARM] / rates[names.MODEL_ALONE])

    def device_ms(self, name: str) -> float | None:
        """CPU-ms per image that one augmentation adds to the plain device stage, at least 0."""
        more = self._cpu_ms(names.of(names.DEVICE_WITH, name))
        plain = self._cpu_ms(names.DEVICE_PLAIN)
        return None if more is None or plain is None else max(0.0, more - plain)

    def wall_ms(self, id: Id) -> float:
        """Wall-ms per image of a detail."""
        return next(stage.timing.wall_ms for stage in self.details if stage.id == id)

    def _cpu_ms(self, id: Id) -> float | None:
        found = [stage.timing.cpu_ms.median for stage in self.details if stage.id == id]
        return found[0] if found else None


def explore(setting: Setting, inputs: Inputs, step: Step, timed: Timed, make: MakeLoader) -> Explored:
    """Measure it. make: a loader of the profiled kind, from batch size and number of batches."""
    workload, seconds = setting.workload, setting.workload.seconds
    setting.announce("details")
    short_s = seconds / 4
    cold = cold_read(inputs, short_s, read)
    found, unmeasured = detail_stages(
        inputs,
        setting.base,
        batch_size=min(timed.loaders.batch_size, _LARGEST_DETAIL),
        device=setting.device,
        quick=workload.quick,
    )
    details = [stage.time(short_s) for stage in found]
    setting.announce("differential runs")
    levels = [
        Level(id=names.MODEL_ALONE, timing=timed.model.timing),
        *([] if workload.quick else _between(setting, inputs, step, timed)),
        Level(id=names.WARM, timing=timed.together.timing),
    ]
    setting.announce("cold files")
    if not workload.quick:
        loader = make(timed.model_batch, _cold_batches(len(inputs.samples), timed, seconds))
        levels.append(Level(id=names.COLD, timing=time_cold(inputs, loader, step, seconds)))
    setting.announce("latency")
    latency = time_latency(make(timed.loaders.batch_size, 4 * max(1, workload.workers)), seconds / 2)
    setting.announce("interference")
    points = () if workload.quick else _interference(setting, inputs, step, timed.model_batch)
    return Explored(
        details=(cold, *details),
        unmeasured=unmeasured,
        levels=tuple(levels),
        stalls=stalls(levels, len(inputs.index)),
        epoch_images=len(inputs.index),
        latency=latency,
        interference=points,
        notes=tuple(_notes(cold, step)),
    )


def _between(setting: Setting, inputs: Inputs, step: Step, timed: Timed) -> list[Level]:
    """The runs between the model alone and the loader with it, each with one part more."""
    plain = _without_draws(setting.plan)
    levels = []
    for id, decode, steps in (
        (names.WITH_LOADER, False, plain),
        (names.WITH_DECODE, True, plain),
        (names.WITH_AUGMENT, True, setting.plan),
    ):
        stage = DeviceStage(
            steps,
            device=setting.device,
            memory_format=setting.memory_format,
            num_classes=inputs.num_classes,
        )
        stage.warm_up()
        timing = time_level(
            inputs,
            setting.plan,
            stage,
            step,
            decode=decode,
            batch_size=timed.model_batch,
            workers=setting.workload.workers,
            seconds=setting.workload.seconds,
            window=timed.window,
        )
        levels.append(Level(id=id, timing=timing))
    return levels


def _without_draws(plan: Plan) -> Plan:
    """Cast and normalise, and the steps that change the model's input size."""
    steps = [(spec, step_of(spec)) for spec in plan.device]
    return replace(plan, device=tuple(spec for spec, step in steps if step.resizes or not step.drawn))


def _cold_batches(files: int, timed: Timed, seconds: float) -> int:
    """As many batches as the sampled files fill, or as the time allows."""
    allowed = timed.together.timing.images_per_s.median * seconds / 3 / timed.model_batch
    return max(2, min(files // timed.model_batch, round(allowed)))


def _interference(setting: Setting, inputs: Inputs, step: Step, batch_size: int) -> tuple[Point, ...]:
    """Nothing where no model was run."""
    if not isinstance(step, ModelStep):
        return ()
    images, labels = step.synthetic(batch_size)

    def unit() -> int:
        step(images, labels)
        return batch_size

    measure(unit, 0.0, min_repeats=1)
    return interference(inputs, unit, setting.cpus, setting.workload.seconds / 2)


def _notes(cold: StageResult, step: Step) -> list[str]:
    notes = []
    if not isinstance(step, ModelStep):
        notes.append("Interference was not measured: no model was run.")
    if cold.timing.cpu_ms.median > 0.7 * cold.timing.wall_ms:
        notes.append(
            "Cold reads took no longer than a processor needs for them. This storage is memory, or has a "
            "cache that posix_fadvise does not empty, so the figures for cold files are those for warm ones."
        )
    return notes
