"""The parts of a loader's epoch: the source of its batches, its requests, the handling of each batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastpipe.backends import registry
from fastpipe.backends.base import OWN, BatchSource, Job
from fastpipe.batch import (
    Drawer,
    SeededSampler,
    WorkerPool,
    current_rank,
    read_one,
    read_positions,
    read_samples,
)
from fastpipe.batch.drawing import Reader
from fastpipe.batch.locate import storage_kind
from fastpipe.batch.mend import Policy
from fastpipe.batch.order import known_repeats
from fastpipe.batch.quarantine import IncidentLog, Quarantine, default_quarantine
from fastpipe.batch.targets import thread_labels
from fastpipe.batch.worker import KeyedWork
from fastpipe.choice.choose import decide
from fastpipe.choice.probe import Trial
from fastpipe.device.stages import Stages
from fastpipe.loader.arguments import ResolutionPolicy
from fastpipe.loader.asked import Asked
from fastpipe.loader.epoch import Lane, LiftedLane, OwnLane, PlainLane, Position
from fastpipe.loader.plan import Planned, count_classes
from fastpipe.system.machine import this_machine
from fastpipe.transforms import with_size
from fastpipe.types import Choice

Resolution = Callable[[int, int], int | None]


class Supply:
    """What a loader keeps from epoch to epoch: backend, source, device stages, the record of incidents.

    Each part is made when it is first needed, and again when the settings change.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, BatchSource] | None = None
        self._choice: tuple[Any, Choice] | None = None
        self._saved: str | None = None
        self._log: tuple[Any, IncidentLog] | None = None
        self.stages = Stages()

    @property
    def persistent(self) -> BatchSource | None:
        """The source with persistent workers."""
        return None if self._kept is None else self._kept[1]

    @property
    def backend(self) -> str | None:
        """The one chosen, else the one that a resumed run used."""
        return self._saved if self._choice is None else self._choice[1].backend

    def unopened(self) -> Supply:
        """What another process may take over: the backend to prefer."""
        fresh = Supply()
        fresh.resume(self.backend)
        return fresh

    def resume(self, backend: str | None) -> None:
        """Choose again, and prefer the backend that a resumed run used."""
        self._saved, self._choice = backend, None

    def source(self, asked: Asked, planned: Planned, choice: Choice | None) -> tuple[BatchSource, bool]:
        """The source of the plan, and whether its workers are new: persistent ones serve again."""
        backend = choice and choice.backend
        key = (
            planned.plan,
            planned.proof,
            asked.seed is not None,
            asked.on_error,
            backend,
            asked.kept_numerics,
        )
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1], False
        policy = Policy(on_error=asked.on_error, listed=self.incidents(asked).listed())
        source = build_source(asked, planned, policy, choice, reseed=asked.seed is not None)
        self._kept = (key, source) if asked.persistent_workers else None
        return source, True

    def choice(self, asked: Asked, planned: Planned, resolution: Resolution | None) -> Choice | None:
        """The backend, chosen once for each plan; None if nothing was lifted.

        resolution: of the batches to measure, if necessary; None: report what is known and measure nothing.
        """
        if planned.plan is None:
            return None
        key = (planned.plan, asked.backend, asked.numerics)
        if self._choice is not None and self._choice[0] == key:
            return self._choice[1]
        choice = decide(
            planned.plan,
            this_machine(),
            asked=asked.backend,
            numerics=asked.kept_numerics,
            storage=OWN if planned.proof is not None else storage_kind(asked.dataset),
            saved=self._saved,
            trial=None if resolution is None else Trial(dataset=asked.dataset, resolution=resolution),
        )
        if resolution is not None:
            self._choice = key, choice
        return choice

    def unlifted(self, asked: Asked, ended: Planned) -> BatchSource:
        """The source of the batches after lifting ended in an epoch: drawn by each sample's own key."""
        policy = Policy(on_error=asked.on_error, listed=self.incidents(asked).listed())
        self._kept = None
        return build_source(asked, ended, policy, None, reseed=True)

    def incidents(self, asked: Asked) -> IncidentLog:
        """The record of broken samples under the current policy."""
        key = (asked.quarantine, asked.max_bad, asked.on_error)
        if self._log is None or self._log[0] != key:
            self._log = key, _incident_log(asked)
        return self._log[1]


def _incident_log(asked: Asked) -> IncidentLog:
    """The record of broken samples; it has no list for on_error="raise", which needs none."""
    path = None
    if asked.on_error != "raise" and asked.quarantine is not False:
        path = default_quarantine(asked.dataset) if asked.quarantine is None else asked.quarantine
    quarantine = None if path is None else Quarantine(path, given=asked.quarantine is not None)
    return IncidentLog(quarantine, asked.max_bad)


def build_source(
    asked: Asked, planned: Planned, policy: Policy, choice: Choice | None, *, reseed: bool
) -> BatchSource:
    """The source of the plan, or torch's own workers over the data set if nothing was lifted."""
    options = asked.worker_options(lifted=planned.plan is not None)
    if planned.plan is None or choice is None:
        work = KeyedWork(
            asked.dataset,
            collate_fn=asked.collate_fn,
            batched=asked.batched,
            reseed=reseed,
            on_error=policy.on_error,
        )
        return WorkerPool(work, options)
    job = Job(
        dataset=asked.dataset,
        plan=planned.plan,
        workers=options,
        reseed=reseed,
        policy=policy,
        numerics=asked.kept_numerics,
        device=asked.target,
        proof=planned.proof,
    )
    return registry.load(choice.backend).build(job)


def drawer_of(
    asked: Asked,
    planned: Planned,
    choice: Choice | None,
    position: Position,
    *,
    batches: Any,
    resolution: Resolution,
) -> Drawer:
    """The drawer of the ids of this epoch's `batches`, from `position` on."""
    sampler = asked.deciding_sampler
    if isinstance(sampler, SeededSampler):
        sampler.set_epoch(position.epoch)
    read: Reader = read_positions
    if planned.plan is None or planned.proof is not None:
        read = read_samples if asked.batched else read_one
    threads = choice is not None and registry.load(choice.backend).capabilities.workers == "threads"
    keyed = asked.seed is not None or asked.num_workers > 0
    return Drawer(
        batches,
        seed=position.base_seed or 0,
        epoch=position.epoch,
        resolution=resolution,
        read=read,
        repeats=known_repeats(sampler, asked.batch_sampler) if asked.batched else None,
        skip=position.delivered,
        rank=current_rank(),
        labels=thread_labels(asked.dataset, keyed=keyed) if threads else None,
    )


def lane_of(asked: Asked, planned: Planned, stages: Stages, resolution: ResolutionPolicy) -> Lane:
    """The processing of a batch on its way to the script."""
    if planned.plan is None:
        return PlainLane(target_of(asked, planned))
    if resolution.active:
        with_size(planned.plan, resolution.override or 224)  # raises here, not in a worker
    stage = stages.get(
        planned.plan,
        device=asked.target,
        engine=asked.engine,
        dtype=asked.dtype,
        memory_format=asked.memory_format,
        num_classes=count_classes(asked.dataset, asked.num_classes, planned.num_classes),
    )
    if planned.proof is not None:
        return OwnLane(stage, planned.proof.place, plain=planned.proof.plain)
    return LiftedLane(stage)


def target_of(asked: Asked, planned: Planned) -> torch.device | None:
    """The device of batches that are not lifted; None: where the script's code makes them.

    Where lifting ended, they go on to the GPU that the lifted ones were on.
    """
    if asked.device is None and not (planned.ended and asked.target.type == "cuda"):
        return None
    return asked.target
