"""One profile: every stage alone, then together, then what differs by one part, then the verdict."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastpipe.choose import usable_cpus
from fastpipe.device.stage import resolve_device
from fastpipe.errors import BackendError
from fastpipe.profiling.demand import target_timing
from fastpipe.profiling.differential import Paced
from fastpipe.profiling.explore import Explored, explore
from fastpipe.profiling.fixes import Fix
from fastpipe.profiling.history import Checked, past_errors
from fastpipe.profiling.host import OtherLoad, describe_host
from fastpipe.profiling.inputs import Inputs, fetch
from fastpipe.profiling.model import ModelStep, fitting_batch
from fastpipe.profiling.predict import Basis, predict_loader, predict_training
from fastpipe.profiling.remedies import find_fixes, verify
from fastpipe.profiling.scaling import Curve, fit, worker_counts
from fastpipe.profiling.stages import Stage, StageResult, loader_stages, overhead, whole_host_half
from fastpipe.profiling.timing import measure
from fastpipe.profiling.together import loader_batch, time_variants, time_with_model
from fastpipe.profiling.variants import Variant, beton_of, make_loader, unavailable
from fastpipe.profiling.verdict import Measured, StageCost, Verdict, forecast, judge
from fastpipe.profiling.verdict_words import in_words
from fastpipe.profiling.whatif import Answer, answer
from fastpipe.profiling.workload import Workload, torch_transform, transform_of
from fastpipe.transforms import RandAugment, merge

__all__ = ["Announce", "Profile", "cost_of", "num_parts", "profile"]

Announce = Callable[[str], None]
"""Called with the name of each part before it starts."""

Step = Callable[[torch.Tensor, torch.Tensor], None]

OURS, PLAIN = "fastpipe.DataLoader", "torch DataLoader"

_MOST_PACKED = 128
_LONGEST_WINDOW_S = 1.5
_BUSY_SHARE = 0.1
_ENDLESS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything a report shows. `stages` were timed alone, `together` as they run in training.

    curve: the loader's rate over its workers (None without workers). explored: costs beside the path, runs
    that differ by one part, latencies. fixes are ranked; checked is what `--verify` found; past, what earlier
    runs did.
    """

    workload: Workload
    host: dict[str, Any]
    data: dict[str, Any]
    batch_sizes: dict[str, int]
    stages: tuple[StageResult, ...]
    together: tuple[StageResult, ...]
    verdict: Verdict
    notes: tuple[str, ...]
    curve: Curve | None
    explored: Explored
    fixes: tuple[Fix, ...]
    checked: tuple[Checked, ...]
    past: tuple[Checked, ...]
    what_if: Answer | None


def num_parts(workload: Workload) -> int:
    """How often `profile` announces a part."""
    backend = workload.backend != "torchvision"
    return 18 + (workload.workers > 0) - 4 * backend + 1 + workload.verify


def profile(workload: Workload, announce: Announce = lambda part: None) -> Profile:
    """Measure the workload on this machine: about 30 times `workload.seconds`.

    Raises what opening the data raises, ArgumentError for a model or size that cannot be run, and
    BackendError for a backend that cannot serve, and when a worker process dies.
    """
    try:
        with ExitStack() as stack:
            return _Run(workload, announce, stack).execute()
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

    def __init__(self, workload: Workload, announce: Announce, stack: ExitStack) -> None:
        self.workload, self.announce, self.stack = workload, announce, stack
        self.device = resolve_device(None)
        # A demand that is given stands in for a GPU: the model takes nothing of the CPUs.
        self.apart = self.device.type == "cuda" or workload.target is not None
        self.cpus = usable_cpus()
        self.transform, self.base = transform_of(workload.resolution)
        self.plan = merge(self.base, workload.augment) if workload.augment else self.base
        self.format = torch.channels_last if workload.channels_last else torch.contiguous_format
        self.window_s = min(0.6 * workload.seconds, _LONGEST_WINDOW_S)

    def execute(self) -> Profile:
        """Measure everything."""
        seconds, workload = self.workload.seconds, self.workload
        others = OtherLoad()
        self.announce("files")
        inputs = fetch(
            workload.data, self.base, seconds=seconds, quick=workload.quick, augment=workload.augment
        )
        self.variant = self._variant(inputs)
        step = self._step(inputs)
        host_half, stages = self._host(inputs)
        loaders, batch_size = self._loaders(inputs, stages)
        curve = self._curve(loaders)
        model, model_batch = self._model(step)
        ours = loaders[OURS]
        window = self._window(model, ours)
        self.announce("loader and model")
        together = time_with_model(
            self._endless(inputs, model_batch),
            step,
            batch_size=model_batch,
            seconds=2 * seconds,
            window=window,
        )
        stages.append(model)
        costs = tuple(self._cost(stage) for stage in stages)
        basis = self._basis(costs, curve, ours, together)
        measured = Measured(
            loader=ours.timing.images_per_s.median,
            together=together.timing.images_per_s.median,
            loader_cpu_ms=ours.timing.cpu_ms.median,
        )
        explored = explore(
            inputs,
            self.base,
            self.plan,
            step,
            make=lambda batch, batches: self._make(inputs, batch, batches),
            workload=workload,
            device=self.device,
            memory_format=self.format,
            batch_size=model_batch,
            loader_batch_size=batch_size,
            window=window,
            cpus=self.cpus,
            model=model,
            warm=together,
            announce=self.announce,
        )
        fixes = find_fixes(basis, explored, loaders, self.variants, inside=self._policy)
        checked = self._verify(inputs, basis, fixes, batch_size)
        return Profile(
            workload=workload,
            host=describe_host(),
            data=inputs.describe(),
            batch_sizes={"asked": workload.batch_size, "loader": batch_size, "model": model_batch},
            stages=tuple(stages),
            together=(host_half, ours, loaders[PLAIN], together),
            verdict=self._verdict(basis, measured, explored, fixes, calibrated=curve is not None),
            notes=(
                *_load_notes(others),
                *inputs.notes,
                *workload.notes,
                *self._own_notes(),
                *self._batch_notes(batch_size, model_batch),
                *explored.notes,
            ),
            curve=curve,
            explored=explored,
            fixes=fixes,
            checked=checked,
            past=tuple(past_errors()),
            what_if=self._what_if(basis, explored),
        )

    def _verdict(
        self,
        basis: Basis,
        measured: Measured,
        explored: Explored,
        fixes: tuple[Fix, ...],
        *,
        calibrated: bool,
    ) -> Verdict:
        """The verdict in words, with the fix that brings most to the loader as it is."""
        setting: dict[str, Any] = {"cpus": self.cpus, "workers": self.workload.workers, "gpu": self.apart}
        foretold = predict_loader(basis) if calibrated else None
        verdict = judge(basis.costs, measured=measured, calibrated=foretold, **setting)
        base = predict_training(basis).median
        best = next((fix for fix in fixes if fix.helps and fix.base == base), None)
        saved = explored.saved_by_device
        freed = saved * basis.demand / 1000.0 if self._policy and saved is not None else None
        return in_words(verdict, basis.costs, measured, best=best, freed=freed, **setting)

    @property
    def _policy(self) -> bool:
        """Whether the recipe has RandAugment, so that the device stage was timed with it."""
        return any(isinstance(spec, RandAugment) for spec in self.workload.augment)

    def _variant(self, inputs: Inputs) -> Variant:
        """The loader that is profiled. BackendError when the backend asked for cannot serve here."""
        name = self.workload.backend
        beton = None
        if reason := unavailable(name, self.plan, beton=name == "ffcv"):
            raise BackendError(f"backend {name!r} cannot serve this profile: {reason}")
        if name == "ffcv":
            beton, _ = self.stack.enter_context(beton_of(inputs))
        return Variant(workers=self.workload.workers, backend=name, beton=beton)

    def _step(self, inputs: Inputs) -> Step:
        if self.workload.target is not None:
            return Paced(self.workload.target[0])
        return ModelStep(self.workload, len(inputs.index.classes), self.device)

    def _make(self, inputs: Inputs, batch_size: int, batches: int) -> Any:
        return make_loader(
            inputs,
            self.transform,
            self.variant,
            batch_size=batch_size,
            batches=batches,
            memory_format=self.format,
        )

    def _endless(self, inputs: Inputs, batch_size: int) -> Any:
        # As many batches as no run will see: the iterator is closed when the time is over.
        return self._make(inputs, batch_size, _ENDLESS)

    def _cost(self, stage: StageResult) -> StageCost:
        return cost_of(stage, gpu=self.apart and self.device.type == "cuda")

    def _host(self, inputs: Inputs) -> tuple[StageResult, list[StageResult]]:
        """The host half in one process, and the loader's stages."""
        stages = self._stages(inputs)
        self.announce("host half")
        seconds = self.workload.seconds
        if self.workload.backend != "torchvision":
            host_half = self._whole_backend(inputs).time(seconds)
            name = f"{self.workload.backend} pipeline"
            return host_half, [replace(host_half, name=name, lane="worker"), *stages]
        host_half = whole_host_half(inputs, self.plan, min(32, self.workload.batch_size)).time(seconds)
        rest = overhead(host_half, stages)
        return host_half, stages if rest is None else [*stages, rest]

    def _whole_backend(self, inputs: Inputs) -> Stage:
        """Another backend decodes, crops and packs in one go, so it is one stage: 1 worker, uint8 out."""
        batch_size = min(32, self.workload.batch_size)
        variant = replace(self.variant, workers=1)
        loader = make_loader(
            inputs,
            self.transform,
            variant,
            batch_size=batch_size,
            batches=4,
            memory_format=self.format,
            engine="none",
        )

        def unit() -> int:
            return sum(len(batch[0]) for batch in loader)

        return Stage(name="host half, 1 worker", lane=None, what="read to packed batch", unit=unit, tree=True)

    def _stages(self, inputs: Inputs) -> list[StageResult]:
        makers = loader_stages(
            inputs,
            self.plan,
            batch_size=min(self.workload.batch_size, _MOST_PACKED),
            workers=self.workload.workers,
            device=self.device,
            memory_format=self.format,
        )
        if self.workload.backend != "torchvision":
            makers = makers[-1:]
        results = []
        for make in makers:
            stage = make()
            self.announce(stage.name)
            results.append(stage.time(self.workload.seconds))
        return results

    def _loaders(self, inputs: Inputs, stages: list[StageResult]) -> tuple[dict[str, StageResult], int]:
        self.announce("loaders")
        seconds, workers = self.workload.seconds, self.workload.workers
        rate = forecast([self._cost(stage) for stage in stages], cpus=self.cpus, workers=workers).images_per_s
        batch_size = loader_batch(self.workload.batch_size, rate, self.window_s)
        transform, words = torch_transform(self.transform, self.workload.augment)
        variants = {OURS: self.variant, PLAIN: Variant(workers=workers, plain=True, transform=transform)}
        variants |= {f"{num} workers": replace(self.variant, workers=num) for num in worker_counts(workers)}
        self.variants = self._others(inputs)
        variants |= self.variants
        found = time_variants(
            inputs,
            self.transform,
            variants,
            batch_size=batch_size,
            rate=rate,
            window_s=self.window_s,
            workers=workers,
            device=self.device,
            repeats=round(2 * seconds / self.window_s),
            memory_format=self.format,
        )
        found[PLAIN] = replace(found[PLAIN], what=words)
        return found, batch_size

    def _others(self, inputs: Inputs) -> dict[str, Variant]:
        """Other backends and files, with 1 worker: what they cost is what a fix by them brings."""
        if self.workload.quick or self.workload.workers == 0 or self.workload.backend != "torchvision":
            return {}
        found = {}
        if unavailable("dali", self.plan, beton=False) is None:
            found["backend dali"] = Variant(workers=1, backend="dali")
        path, _ = self.stack.enter_context(beton_of(inputs))
        found[".beton, bytes kept"] = Variant(workers=1, beton=path)
        if unavailable("ffcv", self.plan, beton=True) is None:
            found[".beton, backend ffcv"] = Variant(workers=1, backend="ffcv", beton=path)
        most = 2 * self.workload.resolution
        small, _ = self.stack.enter_context(beton_of(inputs, max_resolution=most))
        found[f".beton, max resolution {most}"] = Variant(workers=1, beton=small)
        return found

    def _curve(self, loaders: dict[str, StageResult]) -> Curve | None:
        counts = worker_counts(self.workload.workers)
        if not counts:
            return None
        return fit({num: loaders[f"{num} workers"].timing.rates for num in counts})

    def _basis(
        self, costs: tuple[StageCost, ...], curve: Curve | None, ours: StageResult, together: StageResult
    ) -> Basis:
        return Basis(
            costs=costs,
            curve=curve or fit({1: ours.timing.rates}),
            cpus=self.cpus,
            workers=self.workload.workers,
            shared=not self.apart,
            together=together.timing.interval,
            loader_cpu_ms=ours.timing.cpu_ms.median,
        )

    def _model(self, step: Step) -> tuple[StageResult, int]:
        self.announce("model step")
        seconds = self.workload.seconds
        if not isinstance(step, ModelStep):
            assert self.workload.target is not None
            rate, source = self.workload.target
            timing = target_timing(rate)
            # Steps of about 20 ms, so that a window of them fits the time.
            batch_size = max(1, min(self.workload.batch_size, round(0.02 * rate)))
            return StageResult(name="model step", lane="model", what=source, timing=timing), batch_size
        batch_size = fitting_batch(step, self.workload.batch_size, seconds / 4)
        images, labels = step.synthetic(batch_size)

        def unit() -> int:
            step(images, labels)
            return batch_size

        what = f"{self.workload.model}, batches of {batch_size}"
        timing = measure(unit, 1.5 * seconds)
        return StageResult(name="model step", lane="model", what=what, timing=timing), batch_size

    def _window(self, model: StageResult, ours: StageResult) -> int:
        """Steps in a repeat: at least 50 ms, and where the loader is slower a multiple of the workers."""
        rate = min(model.timing.images_per_s.median, ours.timing.images_per_s.median)
        if 2 * model.timing.images_per_s.median < ours.timing.images_per_s.median and not self.apart:
            return 1
        lanes = max(1, self.workload.workers)
        return lanes * max(1, round(0.1 * rate / self.workload.batch_size / lanes)) if self.apart else lanes

    def _verify(
        self, inputs: Inputs, basis: Basis, fixes: tuple[Fix, ...], batch_size: int
    ) -> tuple[Checked, ...]:
        if not self.workload.verify:
            return ()
        self.announce("verification")
        return verify(
            inputs,
            self.transform,
            fixes,
            basis,
            batch_size=batch_size,
            window_s=self.window_s,
            device=self.device,
            memory_format=self.format,
        )

    def _what_if(self, basis: Basis, explored: Explored) -> Answer | None:
        if self.workload.question is None:
            return None
        return answer(
            self.workload.question,
            basis,
            inside=self._policy,
            pillow_ms=explored.pillow_randaugment_ms,
            device_ms=explored.device_ms("RandAugment"),
        )

    def _own_notes(self) -> list[str]:
        notes = []
        if self.workload.target is not None:
            rate, source = self.workload.target
            notes.append(f"No model was run: a demand of {rate:,.0f} images/s stands in for it ({source}).")
        if self.workload.backend == "ffcv":
            notes.append("FFCV read a temporary .beton of the sampled files, their bytes kept.")
        if self.workload.quick:
            notes.append(
                "--quick leaves out other backends and files, the runs between model and loader, cold "
                "files beyond their reading, and interference."
            )
        return notes

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
