"""One profile: every stage alone, then together, then the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fastpipe.choose import usable_cpus
from fastpipe.device.stage import resolve_device
from fastpipe.errors import BackendError
from fastpipe.profiling.host import OtherLoad, describe_host
from fastpipe.profiling.inputs import Inputs, fetch
from fastpipe.profiling.model import ModelStep, fitting_batch
from fastpipe.profiling.stages import StageResult, loader_stages, overhead, whole_host_half
from fastpipe.profiling.timing import measure
from fastpipe.profiling.together import epoch_batches, loader_batch, time_loaders, time_with_model
from fastpipe.profiling.verdict import Measured, StageCost, Verdict, forecast, judge
from fastpipe.profiling.workload import Workload, transform_of

__all__ = ["Announce", "Profile", "cost_of", "num_parts", "profile"]

Announce = Callable[[str], None]
"""Called with the name of each part before it starts."""

_MOST_PACKED = 128
_LONGEST_WINDOW_S = 1.5
_BUSY_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything a report shows. `stages` were timed alone, `together` as they run in training."""

    workload: Workload
    host: dict[str, Any]
    data: dict[str, Any]
    batch_sizes: dict[str, int]
    stages: tuple[StageResult, ...]
    together: tuple[StageResult, ...]
    verdict: Verdict
    notes: tuple[str, ...]


def num_parts(workload: Workload) -> int:
    """How often `profile` announces a part."""
    return 11 if workload.workers > 0 else 10


def profile(workload: Workload, announce: Announce = lambda part: None) -> Profile:
    """Measure the workload on this machine: about 20 times `workload.seconds`.

    Raises what opening the data raises, ArgumentError for a model or size that cannot be run, and
    BackendError when a worker process dies.
    """
    try:
        return _Run(workload, announce).execute()
    except RuntimeError as error:
        # torch raises a plain RuntimeError for a worker that died, in whatever the main thread is doing.
        if "DataLoader worker" not in str(error):
            raise
        raise BackendError(
            f"a worker process died while it was timed: {str(error).strip().splitlines()[0]} "
            "Look for an out-of-memory killer (dmesg) or a small /dev/shm; --workers 0 runs without processes"
        ) from error


def cost_of(result: StageResult, *, gpu: bool) -> StageCost:
    """The stage as the verdict counts it. ValueError for what is no single stage."""
    if result.lane is None:
        raise ValueError(f"{result.name} is several stages together")
    waits = gpu and result.lane == "model"  # a thread that waits for a GPU spins, and counts as busy
    cpu_ms = 0.0 if waits else result.timing.cpu_ms.median
    return StageCost(name=result.name, lane=result.lane, wall_ms=result.timing.wall_ms, cpu_ms=cpu_ms)


class _Run:
    """The state of one profile, filled from top to bottom."""

    def __init__(self, workload: Workload, announce: Announce) -> None:
        self.workload, self.announce = workload, announce
        self.device = resolve_device(None)
        self.gpu = self.device.type == "cuda"
        self.cpus = usable_cpus()
        self.transform, self.plan = transform_of(workload.resolution)
        self.format = torch.channels_last if workload.channels_last else torch.contiguous_format

    def execute(self) -> Profile:
        """Measure everything."""
        seconds = self.workload.seconds
        others = OtherLoad()
        self.announce("files")
        inputs = fetch(self.workload.data, self.plan, seconds=seconds, quick=self.workload.quick)
        step = ModelStep(self.workload, len(inputs.index.classes), self.device)
        stages = self._stages(inputs)
        self.announce("host half")
        host_half = whole_host_half(inputs, self.plan, min(32, self.workload.batch_size)).time(seconds)
        rest = overhead(host_half, stages)
        stages += [] if rest is None else [rest]
        loaders, batch_size = self._loaders(inputs, stages)
        model, model_batch = self._model(step)
        slow_model = 2 * model.timing.images_per_s.median < loaders[0].timing.images_per_s.median
        together = self._with_model(inputs, step, model_batch, slow_model)
        stages.append(model)
        verdict = judge(
            [cost_of(stage, gpu=self.gpu) for stage in stages],
            cpus=self.cpus,
            workers=self.workload.workers,
            gpu=self.gpu,
            measured=Measured(
                loader=loaders[0].timing.images_per_s.median, together=together.timing.images_per_s.median
            ),
        )
        return Profile(
            workload=self.workload,
            host=describe_host(),
            data=inputs.describe(),
            batch_sizes={"asked": self.workload.batch_size, "loader": batch_size, "model": model_batch},
            stages=tuple(stages),
            together=(host_half, *loaders, together),
            verdict=verdict,
            notes=(
                *_load_notes(others),
                *inputs.notes,
                *self.workload.notes,
                *self._batch_notes(batch_size, model_batch),
            ),
        )

    def _stages(self, inputs: Inputs) -> list[StageResult]:
        makers = loader_stages(
            inputs,
            self.plan,
            batch_size=min(self.workload.batch_size, _MOST_PACKED),
            workers=self.workload.workers,
            device=self.device,
            memory_format=self.format,
        )
        results = []
        for make in makers:
            stage = make()
            self.announce(stage.name)
            results.append(stage.time(self.workload.seconds))
        return results

    def _loaders(
        self, inputs: Inputs, stages: list[StageResult]
    ) -> tuple[tuple[StageResult, StageResult], int]:
        self.announce("loaders")
        seconds, workers = self.workload.seconds, self.workload.workers
        costs = [cost_of(stage, gpu=self.gpu) for stage in stages]
        rate = forecast(costs, cpus=self.cpus, workers=workers).images_per_s
        window_s = min(0.6 * seconds, _LONGEST_WINDOW_S)
        batch_size = loader_batch(self.workload.batch_size, rate, window_s)
        results = time_loaders(
            inputs,
            self.transform,
            batch_size=batch_size,
            batches=epoch_batches(batch_size, rate, window_s, workers),
            workers=workers,
            device=self.device,
            repeats=round(2 * seconds / window_s),
            memory_format=self.format,
        )
        return results, batch_size

    def _model(self, step: ModelStep) -> tuple[StageResult, int]:
        self.announce("model step")
        seconds = self.workload.seconds
        batch_size = fitting_batch(step, self.workload.batch_size, seconds / 4)
        images, labels = step.synthetic(batch_size)

        def unit() -> int:
            step(images, labels)
            return batch_size

        what = f"{self.workload.model}, batches of {batch_size}"
        timing = measure(unit, 1.5 * seconds)
        return StageResult(name="model step", lane="model", what=what, timing=timing), batch_size

    def _with_model(self, inputs: Inputs, step: ModelStep, batch_size: int, slow_model: bool) -> StageResult:
        self.announce("loader and model")
        return time_with_model(
            inputs,
            self.transform,
            step,
            batch_size=batch_size,
            workers=self.workload.workers,
            seconds=2 * self.workload.seconds,
            window=1 if slow_model else max(1, self.workload.workers),
            memory_format=self.format,
        )

    def _batch_notes(self, loader: int, model: int) -> list[str]:
        asked = self.workload.batch_size
        if loader == asked == model:
            return []
        return [
            f"Instead of batches of {asked}, the loaders were timed with {loader} and the model with {model} "
            "to fit the time (--seconds-per-stage): the loader's cost per image hardly depends on it, "
            "a model's rate falls with small batches."
        ]


def _load_notes(others: OtherLoad) -> list[str]:
    share = others.share()
    if share < _BUSY_SHARE:
        return []
    return [
        f"Other processes used {share:.0%} of this machine's CPUs meanwhile: rates are too low, that of "
        "the model step above all (its threads wait for each other), so the verdict is doubtful. "
        "Profile again when it is quiet."
    ]
