"""The loader's side of a profile: its stages alone, and whole loaders in turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from fastpipe.errors import BackendError
from fastpipe.profiling import names
from fastpipe.profiling.conclude.scaling import Curve, fit, worker_counts
from fastpipe.profiling.conclude.verdict import forecast
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.setting import Setting
from fastpipe.profiling.measure.stages import Stage, StageResult, loader_stages, overhead, whole_host_half
from fastpipe.profiling.measure.together import loader_batch, time_variants
from fastpipe.profiling.measure.variants import Variant, beton_of, make_loader, unavailable
from fastpipe.profiling.measure.workload import torch_transform
from fastpipe.profiling.names import OURS, PLAIN, Id

_MOST_PACKED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaders:
    """Whole loaders by name, timed with `batch_size`. others: those that a fix would use."""

    found: dict[Id, StageResult]
    others: dict[Id, Variant]
    batch_size: int
    curve: Curve | None


def profiled_variant(setting: Setting, inputs: Inputs, stack: ExitStack) -> Variant:
    """The loader that is profiled. BackendError if the requested backend cannot serve here."""
    name = setting.workload.backend
    beton = None
    if reason := unavailable(name, setting.plan, beton=name == "ffcv"):
        raise BackendError(f"backend {name!r} cannot serve this profile: {reason}")
    if name == "ffcv":
        beton, _ = stack.enter_context(beton_of(inputs))
    return Variant(workers=setting.workload.workers, backend=name, beton=beton)


def profiled_loader(setting: Setting, inputs: Inputs, variant: Variant, batch_size: int, batches: int) -> Any:
    """A loader of that kind over `batches` batches."""
    return make_loader(
        inputs,
        setting.transform,
        variant,
        batch_size=batch_size,
        batches=batches,
        memory_format=setting.memory_format,
    )


def time_host(setting: Setting, inputs: Inputs, variant: Variant) -> tuple[StageResult, list[StageResult]]:
    """The host half in one process, and the loader's stages."""
    stages = _stages(setting, inputs)
    setting.announce("host half")
    workload = setting.workload
    if workload.backend != "torchvision":
        host_half = _whole_backend(setting, inputs, variant).time(workload.seconds)
        return host_half, [
            replace(host_half, id=names.of(names.PIPELINE, workload.backend), lane="worker"),
            *stages,
        ]
    host_half = whole_host_half(inputs, setting.plan, min(32, workload.batch_size)).time(workload.seconds)
    rest = overhead(host_half, stages)
    return host_half, stages if rest is None else [*stages, rest]


def _whole_backend(setting: Setting, inputs: Inputs, variant: Variant) -> Stage:
    """Another backend decodes, crops and packs at once, so this is one stage: 1 worker, uint8 out."""
    loader = make_loader(
        inputs,
        setting.transform,
        replace(variant, workers=1),
        batch_size=min(32, setting.workload.batch_size),
        batches=4,
        memory_format=setting.memory_format,
        engine="none",
    )

    def unit() -> int:
        return sum(len(batch[0]) for batch in loader)

    return Stage(id=names.BACKEND_HALF, lane=None, what="read to packed batch", unit=unit, tree=True)


def _stages(setting: Setting, inputs: Inputs) -> list[StageResult]:
    workload = setting.workload
    makers = loader_stages(
        inputs,
        setting.plan,
        batch_size=min(workload.batch_size, _MOST_PACKED),
        workers=workload.workers,
        device=setting.device,
        memory_format=setting.memory_format,
    )
    if workload.backend != "torchvision":
        makers = makers[-1:]
    results = []
    for make in makers:
        stage = make()
        setting.announce(names.words(stage.id))
        results.append(stage.time(workload.seconds))
    return results


def time_loaders(
    setting: Setting, inputs: Inputs, variant: Variant, stages: list[StageResult], stack: ExitStack
) -> Loaders:
    """The profiled loader, torch's, fewer workers, and other backends and files, in alternating epochs."""
    setting.announce("loaders")
    workers = setting.workload.workers
    costs = [setting.cost(stage) for stage in stages]
    rate = forecast(costs, cpus=setting.cpus, workers=workers).images_per_s
    batch_size = loader_batch(setting.workload.batch_size, rate, setting.window_s)
    transform, words = torch_transform(setting.transform, setting.workload.augment)
    others = _others(setting, inputs, stack)
    counts = worker_counts(workers)
    # With --quick the full count is not timed twice: the curve goes through the loader's own epochs.
    again = {workers} if setting.workload.quick else set()
    ids = {num: OURS if num in again else names.of(names.WORKERS, num) for num in counts}
    variants = {
        OURS: variant,
        PLAIN: Variant(workers=workers, plain=True, transform=transform),
        **{ids[num]: replace(variant, workers=num) for num in counts},
        **others,
    }
    repeats = round(2 * setting.workload.seconds / setting.window_s)
    found = time_variants(setting, inputs, variants, batch_size=batch_size, rate=rate, repeats=repeats)
    found[PLAIN] = replace(found[PLAIN], what=words)
    curve = fit({num: found[name].timing.rates for num, name in ids.items()}) if counts else None
    return Loaders(found=found, others=others, batch_size=batch_size, curve=curve)


def _others(setting: Setting, inputs: Inputs, stack: ExitStack) -> dict[Id, Variant]:
    """Other backends and files, with 1 worker: their cost predicts the gain of a fix that uses them."""
    workload = setting.workload
    if workload.quick or workload.workers == 0 or workload.backend != "torchvision":
        return {}
    found = {}
    if unavailable("turbo", setting.plan, beton=False) is None:
        found[names.TURBO] = Variant(workers=1, backend="turbo")
    if unavailable("dali", setting.plan, beton=False) is None:
        found[names.DALI] = Variant(workers=1, backend="dali")
    path, _ = stack.enter_context(beton_of(inputs))
    found[names.BETON] = Variant(workers=1, beton=path)
    if unavailable("ffcv", setting.plan, beton=True) is None:
        found[names.BETON_FFCV] = Variant(workers=1, backend="ffcv", beton=path)
    most = 2 * workload.resolution
    small, _ = stack.enter_context(beton_of(inputs, max_resolution=most))
    found[names.of(names.BETON_SMALL, most)] = Variant(workers=1, beton=small)
    return found
