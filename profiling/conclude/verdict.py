"""From stage costs to a verdict: what limits the rate, what its removal would gain, and forecasts.

Pure functions of numbers. The model of the pipeline:

    worker lane   workers x 1000 / (wall-ms of read, decode, crop+resize, batch assembly, process hop)
    main lane     1000 / (wall-ms of the device stage)        one thread, ahead of the training loop
    model lane    1000 / (wall-ms of the model step)
    CPUs          usable CPUs x 1000 / (CPU-ms of everything that runs on them)

and the rate of the whole is the lowest of the four. Without worker processes the first three are one lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fastpipe.profiling.measure.timing import Spread
from fastpipe.profiling.names import Id

Lane = Literal["worker", "main", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """Milliseconds per image of one stage, on the wall when alone and of CPU; `lane` is where it runs.

    cpu_ms of a model step on a GPU is 0: its waiting thread does not take CPU time that the loader needs.
    """

    id: Id
    lane: Lane
    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The rate that stage costs allow, what sets it, and the largest stage there.

    low, high: the 95 % interval where the rate was calibrated on the scaling curve.
    """

    images_per_s: float
    bound: Literal["workers", "main thread", "model", "CPUs"]
    stage: Id
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """images/s of the real loader alone, and with the model; None if it was not run.

    loader_cpu_ms: CPU-ms per image of the real loader's process tree.
    """

    loader: float | None = None
    together: float | None = None
    loader_cpu_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The bottleneck, what comes next without it, forecasts.

    cpus_needed: usable CPUs that the loader would need to keep up with the model alone. sentences: the
    verdict in two, details: the rest in words; `words.in_words` fills in both.
    """

    bottleneck: Id
    slowest_loader_stage: Id
    loader: Forecast
    together: Forecast
    following: Forecast | None
    model_images_per_s: float
    cpus_needed: float
    sentences: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def forecast(stages: Sequence[StageCost], *, cpus: float, workers: int) -> Forecast:
    """The lowest of the lanes' rates and that of the CPUs. ValueError without a stage that costs anything."""
    found = [limit for limit in _limits(stages, cpus, workers) if limit is not None]
    if not found:
        raise ValueError("no stage costs anything, so nothing limits the rate")
    return min(found, key=lambda limit: limit.images_per_s)


def _limits(stages: Sequence[StageCost], cpus: float, workers: int) -> list[Forecast | None]:
    lanes = {lane: [stage for stage in stages if stage.lane == lane] for lane in ("worker", "main", "model")}
    # CPUs come last: if a lane gives the same rate, the lane is what a user can change.
    total_cpu_ms = sum(stage.cpu_ms for stage in stages)
    by_cores = (
        Forecast(images_per_s=cpus * 1000.0 / total_cpu_ms, bound="CPUs", stage=_largest(stages, by_cpu=True))
        if total_cpu_ms > 0.0
        else None
    )
    if workers == 0:
        return [_lane(list(stages), 1, "main thread"), by_cores]
    return [
        _lane(lanes["worker"], workers, "workers"),
        _lane(lanes["main"], 1, "main thread"),
        _lane(lanes["model"], 1, "model"),
        by_cores,
    ]


def _lane(
    stages: list[StageCost], parallel: int, bound: Literal["workers", "main thread", "model"]
) -> Forecast | None:
    total_ms = sum(stage.wall_ms for stage in stages)
    if total_ms <= 0.0:
        return None
    stage = _largest(stages, by_cpu=False)
    return Forecast(images_per_s=parallel * 1000.0 / total_ms, bound=bound, stage=stage)


def _largest(stages: Sequence[StageCost], *, by_cpu: bool) -> Id:
    key = "cpu_ms" if by_cpu else "wall_ms"
    return max(stages, key=lambda stage: float(getattr(stage, key))).id


def judge(
    stages: Sequence[StageCost],
    *,
    cpus: float,
    workers: int,
    gpu: bool,
    measured: Measured,
    calibrated: Spread | None = None,
) -> Verdict:
    """Name the bottleneck of loader and model together, from the stage costs and the measurements.

    stages: those of the loader, and one in the lane "model". gpu: whether the model runs on one; if not,
    model and loader share the CPUs. calibrated: the loader's rate by the scaling curve, which includes the
    workers' effect on each other; it replaces the forecast from the stages alone.
    """
    loader_stages = [stage for stage in stages if stage.lane != "model"]
    (model,) = (stage for stage in stages if stage.lane == "model")
    loader = forecast(loader_stages, cpus=cpus, workers=workers)
    together = forecast(stages, cpus=cpus, workers=workers)
    if calibrated is not None:
        loader, together = _calibrate(loader, together, stages, calibrated, gpu)
    demand = 1000.0 / model.wall_ms
    cpu_ms = measured.loader_cpu_ms or sum(stage.cpu_ms for stage in loader_stages)
    return Verdict(
        bottleneck=together.stage,
        slowest_loader_stage=_largest(loader_stages, by_cpu=True),
        loader=loader,
        together=together,
        following=_without(stages, together.stage, cpus, workers),
        model_images_per_s=demand,
        cpus_needed=demand * cpu_ms / 1000.0,
    )


def _calibrate(
    loader: Forecast, together: Forecast, stages: Sequence[StageCost], calibrated: Spread, gpu: bool
) -> tuple[Forecast, Forecast]:
    """Both forecasts with the curve's rate. On shared CPUs the loader's part costs more in proportion."""
    rates = {"images_per_s": calibrated.median, "low": calibrated.low, "high": calibrated.high}
    found = replace(loader, **rates)  # type: ignore[arg-type]
    (model,) = (stage for stage in stages if stage.lane == "model")
    if gpu:
        demand = 1000.0 / model.wall_ms
        if calibrated.median >= demand:
            return found, replace(together, images_per_s=demand)
        return found, replace(loader, **{key: min(rate, demand) for key, rate in rates.items()})  # type: ignore[arg-type]
    if together.bound != "CPUs" or loader.bound != "CPUs":
        return found, together
    extra_ms = 1.0 / calibrated.median - 1.0 / loader.images_per_s
    return found, replace(together, images_per_s=1.0 / (1.0 / together.images_per_s + extra_ms))


def _without(stages: Sequence[StageCost], without: Id, cpus: float, workers: int) -> Forecast | None:
    rest = [stage for stage in stages if stage.id != without]
    if not any(stage.wall_ms > 0.0 or stage.cpu_ms > 0.0 for stage in rest):
        return None
    return forecast(rest, cpus=cpus, workers=workers)
