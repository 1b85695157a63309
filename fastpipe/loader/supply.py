"""What an epoch of a loader is made of: the source of its batches, its requests, what becomes of a batch."""

from __future__ import annotations

from typing import Any

from fastpipe.backends import registry
from fastpipe.backends.base import BatchSource
from fastpipe.batch import Drawer, SeededSampler, current_rank, read_one, read_positions, read_samples
from fastpipe.batch.drawing import Reader
from fastpipe.batch.mend import Policy
from fastpipe.batch.nested import deciding_sampler
from fastpipe.batch.order import known_repeats, length
from fastpipe.batch.quarantine import IncidentLog
from fastpipe.batch.targets import thread_labels
from fastpipe.device.stage import resolve_device
from fastpipe.device.stages import Stages
from fastpipe.loader.epoch import Lane, LiftedLane, PlainLane, Position
from fastpipe.loader.plan import Planned, count_classes
from fastpipe.loader.sources import build_source, choose_backend, incident_log, numerics_of
from fastpipe.transforms import with_size
from fastpipe.types import Choice

__all__ = ["Supply", "drawer_of", "lane_of", "num_samples"]


class Supply:
    """What a loader keeps from epoch to epoch: backend, source, device stages, the record of incidents.

    Each thing is made when it is first needed, and again when the loader's attributes ask for another.
    `loader` is the DataLoader that owns it: handed in, not kept, so that neither keeps the other alive.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, BatchSource] | None = None
        self._choice: tuple[Any, Choice] | None = None
        self._saved: str | None = None
        self._log: tuple[Any, IncidentLog] | None = None
        self.stages = Stages()

    @property
    def persistent(self) -> BatchSource | None:
        """The source whose workers stay."""
        return None if self._kept is None else self._kept[1]

    @property
    def backend(self) -> str | None:
        """The one chosen, else the one that a resumed run used."""
        return self._saved if self._choice is None else self._choice[1].backend

    def unopened(self) -> Supply:
        """What another process may have of this: the backend to prefer."""
        fresh = Supply()
        fresh.resume(self.backend)
        return fresh

    def resume(self, backend: str | None) -> None:
        """Choose anew, and prefer what a resumed run used."""
        self._saved, self._choice = backend, None

    def source(self, loader: Any, planned: Planned) -> tuple[BatchSource, bool]:
        """The source of the plan, and whether its workers are new: persistent ones serve again."""
        choice = self.choice(loader, planned)
        backend = choice and choice.backend
        key = (planned.plan, loader.seed is not None, loader.on_error, backend, numerics_of(loader))
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1], False
        policy = Policy(on_error=loader.on_error, listed=self.incidents(loader).listed())
        source = build_source(loader, planned, policy, choice)
        self._kept = (key, source) if loader.persistent_workers else None
        return source, True

    def choice(self, loader: Any, planned: Planned, *, probing: bool = True) -> Choice | None:
        """The backend, chosen once for each plan; with `probing` it may be measured. None: nothing lifted."""
        if planned.plan is None:
            return None
        key = (planned.plan, loader.backend, loader.numerics)
        if self._choice is not None and self._choice[0] == key:
            return self._choice[1]
        choice = choose_backend(loader, planned, saved=self._saved, probing=probing)
        if probing:
            self._choice = key, choice
        return choice

    def incidents(self, loader: Any) -> IncidentLog:
        """The record of broken samples under the policy at hand."""
        asked = (loader.quarantine, loader.max_bad, loader.on_error)
        if self._log is None or self._log[0] != asked:
            self._log = asked, incident_log(loader)
        return self._log[1]


def drawer_of(loader: Any, planned: Planned, choice: Choice | None, position: Position) -> Drawer:
    """What draws the loader's batches of this epoch, from `position` on."""
    sampler = deciding_sampler(loader.sampler, loader.batch_sampler)
    if isinstance(sampler, SeededSampler):
        sampler.set_epoch(position.epoch)
    read: Reader = read_positions
    if planned.plan is None:
        read = read_samples if loader._auto_collation else read_one
    threads = choice is not None and registry.load(choice.backend).capabilities.workers == "threads"
    keyed = loader.seed is not None or loader.num_workers > 0
    return Drawer(
        loader._batches()[0],
        seed=position.base_seed or 0,
        epoch=position.epoch,
        resolution=loader._policy,
        read=read,
        repeats=known_repeats(sampler, loader.batch_sampler) if loader._auto_collation else None,
        skip=position.delivered,
        rank=current_rank(),
        labels=thread_labels(loader.dataset, keyed=keyed) if threads else None,
    )


def lane_of(loader: Any, planned: Planned) -> Lane:
    """What becomes of a batch on its way to the script."""
    if planned.plan is None:
        return PlainLane(None if loader.device is None else resolve_device(loader.device))
    if loader._policy.active:
        with_size(planned.plan, loader._policy.override or 224)  # raises here, not in a worker
    stage = loader._supply.stages.get(
        planned.plan,
        device=resolve_device(loader.device),
        engine=loader.engine,
        dtype=loader.dtype,
        memory_format=loader.memory_format,
        num_classes=count_classes(loader.dataset, loader.num_classes, planned.num_classes),
    )
    return LiftedLane(stage)


def num_samples(loader: Any) -> int:
    """Samples of this rank's epoch; the data set's where the sampler does not tell; 0 where neither does."""
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1
    batches = length(loader, -1)
    return batches * int(size) if batches >= 0 else length(loader.dataset, 0)
