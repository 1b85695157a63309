"""Predicted rates with intervals: the measured scaling curve, times the effect of a change on stage costs.

    loader(n workers)  = curve(min(n, CPUs)) x forecast(changed costs) / forecast(costs as timed)
    training           = min(loader, demand)              the model on a GPU, or a demand that was given
                       = measured x forecast ratio        model and loader on the same CPUs

The curve carries what the stages alone do not show, above all contention; the ratio carries the change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fastpipe.profiling.conclude.scaling import Curve
from fastpipe.profiling.conclude.verdict import StageCost, forecast
from fastpipe.profiling.measure.timing import Spread, widened
from fastpipe.profiling.names import Id


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The measurements. costs: all stages, including the model's. together: images/s of loader and model.

    loader_cpu_ms: CPU-ms per image of the real loader's process tree, which is more than that of its stages.
    shared: the model runs on the CPUs that the loader uses. scatter: of the machine's own speed, which will
    be different when a prediction is tried.
    """

    costs: tuple[StageCost, ...]
    curve: Curve
    cpus: float
    workers: int
    shared: bool
    together: Spread
    loader_cpu_ms: float
    scatter: float = 0.0

    @property
    def demand(self) -> float:
        """images/s of the model alone."""
        return 1000.0 / next(cost.wall_ms for cost in self.costs if cost.lane == "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The changes. None: unchanged."""

    costs: tuple[StageCost, ...] | None = None
    cpus: float | None = None
    workers: int | None = None


def scaled(costs: Sequence[StageCost], factors: Mapping[Id, float]) -> tuple[StageCost, ...]:
    """The costs with those of the named stages multiplied."""
    return tuple(
        replace(
            cost,
            wall_ms=cost.wall_ms * factors.get(cost.id, 1.0),
            cpu_ms=cost.cpu_ms * factors.get(cost.id, 1.0),
        )
        for cost in costs
    )


def predict_loader(basis: Basis, change: Change | None = None) -> Spread:
    """images/s of the loader alone after the change, with a 95 % interval."""
    change = change or Change()
    cpus, workers = _machine(basis, change)
    # Workers beyond the CPUs take turns; the law was fitted on workers that have a CPU each.
    found = _times(basis.curve.at(max(1.0, min(float(workers), cpus))), _ratio(basis, change, together=False))
    return widened(found, basis.scatter)


def predict_training(basis: Basis, change: Change | None = None) -> Spread:
    """images/s of loader and model after the change, with a 95 % interval."""
    change = change or Change()
    if basis.shared:
        return widened(_times(basis.together, _ratio(basis, change, together=True)), basis.scatter)
    found = predict_loader(basis, change)
    costs = change.costs or basis.costs
    demand = 1000.0 / next(cost.wall_ms for cost in costs if cost.lane == "model")
    return Spread(median=min(found.median, demand), low=min(found.low, demand), high=min(found.high, demand))


def _ratio(basis: Basis, change: Change, *, together: bool) -> float:
    """The effect of changed costs on the stage forecast; for loader and model, also of CPUs and workers."""
    cpus, workers = _machine(basis, change)
    kept = [cost for cost in change.costs or basis.costs if together or cost.lane != "model"]
    before = [cost for cost in basis.costs if together or cost.lane != "model"]
    if together:
        old = forecast(before, cpus=basis.cpus, workers=basis.workers)
    else:
        old = forecast(before, cpus=cpus, workers=workers)
    return forecast(kept, cpus=cpus, workers=workers).images_per_s / old.images_per_s


def _machine(basis: Basis, change: Change) -> tuple[float, int]:
    return (
        basis.cpus if change.cpus is None else change.cpus,
        basis.workers if change.workers is None else change.workers,
    )


def _times(found: Spread, ratio: float) -> Spread:
    return Spread(median=found.median * ratio, low=found.low * ratio, high=found.high * ratio)


def without_policy(costs: tuple[StageCost, ...], device_ms: float) -> tuple[StageCost, ...]:
    """The costs without the device stage's RandAugment: its CPU time, and its time if it runs on a CPU."""
    return tuple(
        replace(
            cost,
            wall_ms=max(1e-6, cost.wall_ms - (device_ms if cost.cpu_ms > 0.1 * cost.wall_ms else 0.0)),
            cpu_ms=max(0.0, cost.cpu_ms - device_ms),
        )
        if cost.lane == "main"
        else cost
        for cost in costs
    )
