"""What could be done, ranked by the predicted gain, with its side effects and the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastpipe.profiling.predict import Basis, Change, predict_loader, predict_training, scaled
from fastpipe.profiling.timing import Spread
from fastpipe.profiling.variants import Variant
from fastpipe.profiling.verdict import StageCost

__all__ = ["Fix", "Measures", "one_stage", "rank", "without_policy"]

_HOST = ("read", "decode", "crop+resize", "batch assembly", "process hop", "worker overhead")
# Mild's progressive resizing: 40 % of training at half the side, 40 % growing, 20 % at full size. Mean area.
_PROGRESSIVE_AREA = 0.4 * 0.25 + 0.4 * (0.5**2 + 0.5 * 1.0 + 1.0) / 3 + 0.2
_NO_CHANGE = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One remedy. Rates in images/s with 95 % intervals: of training, and of the loader alone.

    accuracy: "none", or what is tolerated. variant: how `--verify` runs it, None where it cannot.
    base: what the gain is measured against, in images/s of training.
    """

    name: str
    images_per_s: Spread
    loader_images_per_s: Spread
    base: float
    accuracy: str
    command: str
    variant: Variant | None = None
    note: str = ""

    @property
    def gain(self) -> float:
        """How many times the rate it starts from."""
        return self.images_per_s.median / self.base

    @property
    def helps(self) -> bool:
        """Whether the predicted gain is above 2 %."""
        return self.gain >= _NO_CHANGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What the fixes need to know beside the basis; costs in CPU-ms per image, None: not measured.

    backends: variants that can run here, with the CPU-ms per image of their loader at one worker and its
    images/s there. one_worker: the same two of the loader as it is. randaugment_inside: the device stage of
    the basis has RandAugment already.
    """

    one_worker: tuple[float, float]
    backends: Mapping[str, tuple[Variant, float, float, str]]
    cold_read_ms: float
    read_ms: float
    pillow_randaugment_ms: float | None
    device_randaugment_ms: float | None
    max_workers: int
    randaugment_inside: bool = False


def one_stage(costs: tuple[StageCost, ...], factor_wall: float, factor_cpu: float) -> tuple[StageCost, ...]:
    """The worker's stages together multiplied: another backend does them all at once."""
    return tuple(
        replace(cost, wall_ms=cost.wall_ms * factor_wall, cpu_ms=cost.cpu_ms * factor_cpu)
        if cost.name in _HOST
        else cost
        for cost in costs
    )


def rank(basis: Basis, measures: Measures) -> tuple[Fix, ...]:
    """Every fix, the largest predicted gain first."""
    found = [
        *_workers(basis, measures),
        *_backends(basis, measures),
        *_randaugment(basis, measures),
        _progressive(basis),
        _cpus(basis),
        *_disk(basis, measures),
        _prefetch(basis),
    ]
    return tuple(sorted(found, key=lambda fix: -fix.gain))


def _fix(basis: Basis, change: Change, *, before: Change | None = None, **words: Any) -> Fix:
    return Fix(
        images_per_s=predict_training(basis, change),
        loader_images_per_s=predict_loader(basis, change),
        base=predict_training(basis, before or Change()).median,
        **words,
    )


def _workers(basis: Basis, measures: Measures) -> list[Fix]:
    fixes = []
    for workers in sorted({max(1, basis.workers // 2), measures.max_workers} - {basis.workers}):
        change = Change(workers=workers)
        words: dict[str, Any] = {
            "accuracy": "none",
            "command": f"num_workers={workers}",
            "variant": Variant(workers=workers),
        }
        fixes.append(_fix(basis, change, name=f"{workers} worker{'s' if workers > 1 else ''}", **words))
    return fixes


def _backends(basis: Basis, measures: Measures) -> list[Fix]:
    cpu_before, rate_before = measures.one_worker
    fixes = []
    for name, (variant, cpu_ms, rate, accuracy) in measures.backends.items():
        change = Change(costs=one_stage(basis.costs, rate_before / rate, cpu_ms / cpu_before))
        source = "fastpipe-write DATA train.beton; " if variant.beton else ""
        if "max resolution" in name:
            source = f"fastpipe-write DATA train.beton --max-resolution {name.rsplit(' ', 1)[1]}; "
        command = (
            f'{source}DataLoader({"train.beton" if variant.beton else "DATA"}, backend="{variant.backend}")'
        )
        words: dict[str, Any] = {"accuracy": accuracy, "command": command, "variant": variant}
        fixes.append(_fix(basis, change, name=name, **words))
    return fixes


def _randaugment(basis: Basis, measures: Measures) -> list[Fix]:
    """Against a loader whose workers run Pillow's RandAugment."""
    host, device = measures.pillow_randaugment_ms, measures.device_randaugment_ms
    if host is None or device is None:
        return []
    plain = next(cost for cost in basis.costs if cost.lane == "worker")
    costs = without_policy(basis.costs, device) if measures.randaugment_inside else basis.costs
    on_host = (*costs, replace(plain, name="RandAugment, Pillow", wall_ms=host, cpu_ms=host))
    extra = 0.0 if not basis.shared and _on_gpu(basis) else max(0.0, device)
    on_device = (*costs, replace(plain, name="RandAugment", lane="main", wall_ms=extra, cpu_ms=extra))
    if measures.randaugment_inside:
        on_device = basis.costs
    return [
        _fix(
            basis,
            Change(costs=on_device),
            before=Change(costs=on_host),
            name="device augmentation",
            accuracy="none: the operations are Pillow's to the bit on a CPU",
            command="DataLoader(..., augment=[fastpipe.augment.RandAugment(depth=1, severity=10)])",
            variant=Variant(workers=basis.workers),
            note="against the same loader with one RandAugment operation in its workers",
        )
    ]


def without_policy(costs: tuple[StageCost, ...], device_ms: float) -> tuple[StageCost, ...]:
    """The costs without the device stage's RandAugment: its CPU, and its time where that is CPU too."""
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


def _on_gpu(basis: Basis) -> bool:
    return any(cost.lane == "main" and cost.cpu_ms < 0.1 * cost.wall_ms for cost in basis.costs)


def _progressive(basis: Basis) -> Fix:
    area = _PROGRESSIVE_AREA
    names = ("batch assembly", "process hop", "device stage", "model step")
    return _fix(
        basis,
        Change(costs=scaled(basis.costs, dict.fromkeys(names, area))),
        name="progressive resizing",
        accuracy="tolerance: published recipes keep accuracy with it, this run was not tried",
        command="fastpipe-train --recipe mild, or DataLoader(..., resolution=lambda epoch, batch: ...)",
        note="mean over a training with Mild's schedule; decoding is as dear as before",
    )


def _cpus(basis: Basis) -> Fix:
    cpus = 2 * basis.cpus
    return _fix(
        basis,
        Change(cpus=cpus, workers=max(basis.workers, int(cpus))),
        name=f"{cpus:g} CPUs",
        accuracy="none",
        command=f"a machine with {cpus:g} such CPUs, num_workers={int(cpus)}",
        note="outside the measured range of the scaling curve",
    )


def _disk(basis: Basis, measures: Measures) -> list[Fix]:
    """Against files that are not in the page cache: their read takes longer, and CPUs wait for it."""
    slower = max(measures.cold_read_ms, measures.read_ms)
    cold = tuple(replace(cost, wall_ms=slower) if cost.name == "read" else cost for cost in basis.costs)
    half = tuple(replace(cost, wall_ms=slower / 2) if cost.name == "read" else cost for cost in basis.costs)
    words: dict[str, Any] = {"accuracy": "none", "note": "against an epoch from cold files"}
    before = Change(costs=cold)
    return [
        _fix(
            basis,
            Change(),
            before=before,
            name="RAM cache",
            command="memory for all files, read once",
            **words,
        ),
        _fix(
            basis,
            Change(costs=half),
            before=before,
            name="disk twice as fast",
            command="storage with half the time per file",
            **words,
        ),
    ]


def _prefetch(basis: Basis) -> Fix:
    return _fix(
        basis,
        Change(),
        name="prefetch_factor 4",
        accuracy="none",
        command="prefetch_factor=4",
        note="evens out late batches (p99 wait), adds no rate in steady state",
    )
