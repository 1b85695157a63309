"""From a loader and its plan to the source of its batches: which backend, with which workers and policy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.utils.data

from fastpipe.backends import registry
from fastpipe.backends.base import BatchSource, Job, Numerics
from fastpipe.batch import WorkerOptions, WorkerPool
from fastpipe.batch.locate import leaves, storage_kind, usual_numerics
from fastpipe.batch.mend import Policy
from fastpipe.batch.quarantine import IncidentLog, Quarantine, default_quarantine
from fastpipe.batch.worker import KeyedWork
from fastpipe.choice.choose import decide, this_machine, worker_count
from fastpipe.choice.probe import PROBE_IMAGES, Rates, cached_rates, measure, probe_key
from fastpipe.device.stage import resolve_device
from fastpipe.errors import ArgumentError
from fastpipe.loader.plan import Planned
from fastpipe.types import Choice, Plan

__all__ = [
    "AutoWorkers",
    "build_source",
    "choose_backend",
    "incident_log",
    "numerics_of",
    "refuse_what_needs_lifting",
    "resolve_workers",
]


def numerics_of(loader: Any) -> Numerics:
    """What was asked for, else "exact" (torch's pixels) for image files, "fast" for a .beton."""
    given: Numerics | None = loader.numerics
    if given is not None:
        return given
    return usual_numerics(loader.dataset)


def choose_backend(loader: Any, planned: Planned, *, saved: str | None, probing: bool) -> Choice:
    """The backend of a lifted loader; with `probing` it may be measured now.

    Raises BackendError when none can serve it as asked.
    """
    plan = planned.plan
    if plan is None:
        raise ArgumentError(f"nothing was lifted: {planned.reason}")
    return decide(
        plan,
        this_machine(),
        asked=loader.backend,
        numerics=numerics_of(loader),
        storage=storage_kind(loader.dataset),
        saved=saved,
        rates=partial(_rates, loader, plan) if probing else None,
    )


def _rates(loader: Any, plan: Plan, names: Sequence[str]) -> Rates | str:
    """Measure on the loader's own data, unless that would take longer than the epoch."""
    num = len(loader.dataset)
    if num < PROBE_IMAGES:
        return f"an epoch of {num} images is over before a measurement would be"
    machine, numerics = this_machine(), numerics_of(loader)
    roots = sorted({str(leaf.root) for leaf in leaves(loader.dataset)})
    job = Job(
        dataset=loader.dataset,
        plan=plan,
        workers=WorkerOptions(),
        reseed=False,
        policy=Policy(on_error="skip"),
        numerics=numerics,
    )
    key = probe_key(
        machine=machine, data=[roots, num], plan=plan.decode, numerics=numerics, names=sorted(names)
    )
    backends = {name: registry.load(name) for name in names}
    return cached_rates(key, names, lambda: measure(backends, job, resolution=loader._policy))


def resolve_workers(num_workers: int | str, dataset: Any) -> int:
    """torch's number for `num_workers`: "auto" is this rank's share of the CPUs.

    0 for an IterableDataset, whose every worker would yield the whole data.
    """
    if num_workers != "auto" and not isinstance(num_workers, AutoWorkers):
        if isinstance(num_workers, str):
            raise ArgumentError(f"num_workers must be an int >= 0 or 'auto'. Found: {num_workers!r}")
        return num_workers
    if isinstance(dataset, torch.utils.data.IterableDataset):
        return AutoWorkers(0)
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return AutoWorkers(worker_count(this_machine().cpus, int(ranks) if ranks.isdigit() else 1))


class AutoWorkers(int):
    """The number that num_workers="auto" came to: an int to torch, accelerate and Lightning.

    A loader that is rebuilt from the attribute is "auto" again, and counts the CPUs it then has.
    """

    def __repr__(self) -> str:
        return f"auto ({int(self)})"

    def __eq__(self, other: object) -> bool:
        return other == "auto" or int(self) == other

    __hash__ = int.__hash__


def build_source(loader: Any, planned: Planned, policy: Policy, choice: Choice | None) -> BatchSource:
    """The source of the plan, or torch's own workers over the data set where nothing was lifted."""
    reseed = loader.seed is not None
    options = _worker_options(loader, pin=planned.plan is not None)
    if planned.plan is None or choice is None:
        work = KeyedWork(
            loader.dataset,
            collate_fn=loader.collate_fn,
            batched=loader._auto_collation,
            reseed=reseed,
            on_error=policy.on_error,
        )
        return WorkerPool(work, options)
    job = Job(
        dataset=loader.dataset,
        plan=planned.plan,
        workers=options,
        reseed=reseed,
        policy=policy,
        numerics=numerics_of(loader),
        device=resolve_device(loader.device),
    )
    return registry.load(choice.backend).build(job)


def _worker_options(loader: Any, *, pin: bool) -> WorkerOptions:
    on_gpu = resolve_device(loader.device).type == "cuda"
    return WorkerOptions(
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory or (pin and on_gpu),
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
        in_order=loader.in_order,
    )


def incident_log(loader: Any) -> IncidentLog:
    """What keeps the record of broken samples; without a list for on_error="raise", which needs none."""
    path = None
    if loader.on_error != "raise" and loader.quarantine is not False:
        path = default_quarantine(loader.dataset) if loader.quarantine is None else loader.quarantine
    quarantine = None if path is None else Quarantine(path, given=loader.quarantine is not None)
    return IncidentLog(quarantine, loader.max_bad)


def refuse_what_needs_lifting(loader: Any, reason: str, *, resized: bool) -> None:
    """Raise ArgumentError if an argument was given that only a lifted plan can honour."""
    asked = {
        "augment": loader.augment,
        "resolution": resized,
        "dtype": loader.dtype,
        "memory_format": loader.memory_format is not torch.contiguous_format,
        "engine": loader.engine == "none",
        "on_error='replace'": loader.on_error == "replace",
    }
    names = [name for name, given in asked.items() if given]
    if names:
        raise ArgumentError(
            f"{', '.join(names)} cannot be honoured, because nothing was lifted: {reason}. "
            f"loader.explain() shows each step; leave these arguments out to run as torch does"
        )
