"""From a loader and its plan to the source of its batches: which backend, with which workers and policy."""

from __future__ import annotations

from typing import Any

import torch

from fastpipe.backends import registry
from fastpipe.backends.base import BatchSource, Job, Numerics
from fastpipe.batch import WorkerOptions, WorkerPool
from fastpipe.batch.locate import leaves
from fastpipe.batch.mend import Policy
from fastpipe.batch.quarantine import IncidentLog, Quarantine, default_quarantine
from fastpipe.batch.worker import KeyedWork
from fastpipe.choose import choose, this_machine
from fastpipe.device.stage import resolve_device
from fastpipe.errors import ArgumentError
from fastpipe.planning import Planned
from fastpipe.types import Choice

__all__ = [
    "build_source",
    "choose_backend",
    "incident_log",
    "numerics_of",
    "refuse_what_needs_lifting",
    "storage_of",
]


def storage_of(dataset: Any) -> str:
    """Where the samples rest: "folder" or "beton". A mixture counts as "mixed", which no backend reads."""
    kinds = {"folder" if getattr(leaf, "beton", None) is None else "beton" for leaf in leaves(dataset)}
    return kinds.pop() if len(kinds) == 1 else "mixed"


def numerics_of(loader: Any) -> Numerics:
    """What was asked for, else "exact" (torch's pixels) for image files, "fast" for a .beton."""
    given: Numerics | None = loader.numerics
    if given is not None:
        return given
    return "fast" if storage_of(loader.dataset) == "beton" else "exact"


def choose_backend(loader: Any, planned: Planned) -> Choice:
    """The backend of a lifted loader. Raises BackendError when none can serve it as asked."""
    if planned.plan is None:
        raise ArgumentError(f"nothing was lifted: {planned.reason}")
    return choose(
        planned.plan,
        this_machine(),
        asked=loader.backend,
        numerics=numerics_of(loader),
        storage=storage_of(loader.dataset),
    )


def build_source(loader: Any, planned: Planned, policy: Policy) -> BatchSource:
    """The source of the plan, or torch's own workers over the data set where nothing was lifted."""
    reseed = loader.seed is not None
    options = _worker_options(loader, pin=planned.plan is not None)
    if planned.plan is None:
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
    )
    return registry.load(choose_backend(loader, planned).backend).build(job)


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
