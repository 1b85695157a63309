"""Possible fixes, ranked by predicted gain, with their side effects and commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastpipe.profiling import names
from fastpipe.profiling.conclude.predict import (
    Basis,
    Change,
    predict_loader,
    predict_training,
    scaled,
    without_policy,
)
from fastpipe.profiling.conclude.verdict import StageCost
from fastpipe.profiling.measure.explore import Explored
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import Spread
from fastpipe.profiling.measure.variants import Variant
from fastpipe.profiling.names import Id, words

_HOST = (names.READ, names.DECODE, names.CROP, names.ASSEMBLY, names.HOP, names.OVERHEAD)
# Mild's progressive resizing: 40 % of training at half the side, 40 % growing, 20 % at full size. Mean area.
_PROGRESSIVE_AREA = 0.4 * 0.25 + 0.4 * (0.5**2 + 0.5 * 1.0 + 1.0) / 3 + 0.2
_NO_CHANGE = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One remedy. Rates in images/s with 95 % intervals: of training, and of the loader alone.

    accuracy: "none", or what is tolerated. variant: how `--verify` runs it, None if it cannot.
    base: the rate that the gain is relative to, in images/s of training.
    """

    id: Id
    images_per_s: Spread
    loader_images_per_s: Spread
    base: float
    accuracy: str
    command: str
    variant: Variant | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Its name in reports."""
        return words(self.id)

    @property
    def gain(self) -> float:
        """The predicted rate over the rate that it starts from."""
        return self.images_per_s.median / self.base

    @property
    def helps(self) -> bool:
        """Whether the predicted gain is above 2 %."""
        return self.gain >= _NO_CHANGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Measurements that the fixes need in addition to the basis; CPU-ms per image, None: not measured.

    backends: variants that can run here, with the CPU-ms per image and the images/s of their loader at one
    worker. one_worker: the same two figures of the current loader. randaugment_inside: the device stage of
    the basis already has RandAugment.
    """

    one_worker: tuple[float, float]
    backends: Mapping[Id, tuple[Variant, float, float, str]]
    cold_read_ms: float
    read_ms: float
    pillow_randaugment_ms: float | None
    device_randaugment_ms: float | None
    max_workers: int
    randaugment_inside: bool = False


def one_stage(costs: tuple[StageCost, ...], factor_wall: float, factor_cpu: float) -> tuple[StageCost, ...]:
    """One factor for all of the worker's stages: another backend does all of them at once."""
    return tuple(
        replace(cost, wall_ms=cost.wall_ms * factor_wall, cpu_ms=cost.cpu_ms * factor_cpu)
        if cost.id in _HOST
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


def _fix(basis: Basis, change: Change, *, before: Change | None = None, **about: Any) -> Fix:
    return Fix(
        images_per_s=predict_training(basis, change),
        loader_images_per_s=predict_loader(basis, change),
        base=predict_training(basis, before or Change()).median,
        **about,
    )


def _workers(basis: Basis, measures: Measures) -> list[Fix]:
    fixes = []
    for workers in sorted({max(1, basis.workers // 2), measures.max_workers} - {basis.workers}):
        change = Change(workers=workers)
        about: dict[str, Any] = {
            "accuracy": "none",
            "command": f"num_workers={workers}",
            "variant": Variant(workers=workers),
        }
        fixes.append(_fix(basis, change, id=names.of(names.WORKERS, workers), **about))
    return fixes


def _backends(basis: Basis, measures: Measures) -> list[Fix]:
    cpu_before, rate_before = measures.one_worker
    fixes = []
    for id, (variant, cpu_ms, rate, accuracy) in measures.backends.items():
        change = Change(costs=one_stage(basis.costs, rate_before / rate, cpu_ms / cpu_before))
        source = "fastpipe-write DATA train.beton; " if variant.beton else ""
        if most := names.about(id, names.BETON_SMALL):
            source = f"fastpipe-write DATA train.beton --max-resolution {most}; "
        command = (
            f'{source}DataLoader({"train.beton" if variant.beton else "DATA"}, backend="{variant.backend}")'
        )
        about: dict[str, Any] = {"accuracy": accuracy, "command": command, "variant": variant}
        fixes.append(_fix(basis, change, id=id, **about))
    return fixes


def _randaugment(basis: Basis, measures: Measures) -> list[Fix]:
    """Compared with a loader whose workers run Pillow's RandAugment."""
    host, device = measures.pillow_randaugment_ms, measures.device_randaugment_ms
    if host is None or device is None:
        return []
    plain = next(cost for cost in basis.costs if cost.lane == "worker")
    costs = without_policy(basis.costs, device) if measures.randaugment_inside else basis.costs
    on_host = (*costs, replace(plain, id=names.PILLOW_RANDAUGMENT, wall_ms=host, cpu_ms=host))
    extra = 0.0 if not basis.shared and _on_gpu(basis) else max(0.0, device)
    on_device = (
        *costs,
        replace(plain, id=names.DEVICE_RANDAUGMENT, lane="main", wall_ms=extra, cpu_ms=extra),
    )
    if measures.randaugment_inside:
        on_device = basis.costs
    return [
        _fix(
            basis,
            Change(costs=on_device),
            before=Change(costs=on_host),
            id=names.DEVICE_AUGMENTATION,
            accuracy="none: on a CPU, the operations equal Pillow's bit for bit",
            command="DataLoader(..., augment=[fastpipe.augment.RandAugment(depth=1, severity=10)])",
            variant=Variant(workers=basis.workers),
            note="compared with the same loader with one RandAugment operation in its workers",
        )
    ]


def _on_gpu(basis: Basis) -> bool:
    return any(cost.lane == "main" and cost.cpu_ms < 0.1 * cost.wall_ms for cost in basis.costs)


def _progressive(basis: Basis) -> Fix:
    area = _PROGRESSIVE_AREA
    smaller = (names.ASSEMBLY, names.HOP, names.DEVICE, names.MODEL)
    return _fix(
        basis,
        Change(costs=scaled(basis.costs, dict.fromkeys(smaller, area))),
        id=names.PROGRESSIVE,
        accuracy="tolerance: published recipes keep their accuracy with it; not tried for this run",
        command="fastpipe-train --recipe mild, or DataLoader(..., resolution=lambda epoch, batch: ...)",
        note="mean over a training with Mild's schedule; decoding costs as much as before",
    )


def _cpus(basis: Basis) -> Fix:
    cpus = 2 * basis.cpus
    return _fix(
        basis,
        Change(cpus=cpus, workers=max(basis.workers, int(cpus))),
        id=names.of(names.CPUS, f"{cpus:g}"),
        accuracy="none",
        command=f"a machine with {cpus:g} such CPUs, num_workers={int(cpus)}",
        note="outside the measured range of the scaling curve",
    )


def _disk(basis: Basis, measures: Measures) -> list[Fix]:
    """Compared with files outside the page cache: reading takes longer, and CPUs wait for it."""
    slower = max(measures.cold_read_ms, measures.read_ms)
    cold = tuple(replace(cost, wall_ms=slower) if cost.id == names.READ else cost for cost in basis.costs)
    half = tuple(replace(cost, wall_ms=slower / 2) if cost.id == names.READ else cost for cost in basis.costs)
    about: dict[str, Any] = {"accuracy": "none", "note": "compared with an epoch from cold files"}
    before = Change(costs=cold)
    return [
        _fix(
            basis,
            Change(),
            before=before,
            id=names.RAM_CACHE,
            command="memory for all files, read once",
            **about,
        ),
        _fix(
            basis,
            Change(costs=half),
            before=before,
            id=names.FASTER_DISK,
            command="storage with half the time per file",
            **about,
        ),
    ]


def _prefetch(basis: Basis) -> Fix:
    return _fix(
        basis,
        Change(),
        id=names.PREFETCH,
        accuracy="none",
        command="prefetch_factor=4",
        note="evens out late batches (p99 wait); does not raise the rate in steady state",
    )


_ACCURACY = {
    names.TURBO: "none: the same pixels",
    names.DALI: "none: the same pixels within the documented tolerance",
    names.BETON: "none",
    names.BETON_FFCV: "tolerance: FFCV's decoder and area resize give other pixels",
}


_REENCODED = "tolerance: images are stored smaller, and crops of a small area are enlarged"


def find_fixes(
    basis: Basis,
    explored: Explored,
    loaders: Mapping[Id, StageResult],
    others: Mapping[Id, Variant],
    *,
    inside: bool = False,
) -> tuple[Fix, ...]:
    """Rank the possible fixes. inside: the device stage was timed with the recipe's RandAugment."""
    one = loaders.get(names.of(names.WORKERS, 1), loaders[names.OURS]).timing
    backends = {}
    for id, variant in others.items():
        timing = loaders[id].timing
        accuracy = _ACCURACY.get(id, _REENCODED)
        backends[id] = (variant, timing.cpu_ms.median, timing.images_per_s.median, accuracy)
    read = next((cost for cost in basis.costs if cost.id == names.READ), None)
    warm_ms = read.wall_ms if read is not None else 0.0
    return rank(
        basis,
        Measures(
            one_worker=(one.cpu_ms.median, one.images_per_s.median),
            backends=backends,
            read_ms=warm_ms,
            cold_read_ms=explored.wall_ms(names.COLD_READ),
            pillow_randaugment_ms=explored.pillow_randaugment_ms,
            device_randaugment_ms=explored.device_ms("RandAugment"),
            randaugment_inside=inside,
            max_workers=max(1, int(basis.cpus)),
        ),
    )
