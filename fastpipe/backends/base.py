"""The protocol of a backend: storage to packed uint8 batch, driven by our order and our random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import torch

from fastpipe.batch import RequestStream, WorkerOptions
from fastpipe.batch.mend import OnError, Policy
from fastpipe.batch.own.probe import Proof
from fastpipe.types import Availability, HostBatch, Machine, Plan, Support

__all__ = ["OWN", "Backend", "BatchSource", "Job", "Numerics"]

Numerics = Literal["exact", "fast"]
OWN: Final = "own"  # the storage of samples that a script's own `__getitem__` decodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do, before any measurement. `numerics` are the promises it keeps.

    storage: the kinds that it is tested with. any_storage: it only uses the leaf, so it reads every kind.
    fast_resize: the resize kernel under numerics="fast" ("pillow", "area", ...): loaders of one run share it.
    Under "exact" it is Pillow's for all. workers: what `num_workers` counts.
    """

    storage: tuple[str, ...]
    numerics: tuple[Numerics, ...]
    host_steps: bool
    on_error: tuple[OnError, ...]
    any_storage: bool = False
    fast_resize: str = "pillow"
    workers: Literal["processes", "threads"] = "processes"

    def reads(self, kind: str) -> bool:
        """Whether it serves samples of this kind of storage, which may be "mixed" or a script's "own"."""
        return kind in self.storage or (self.any_storage and kind != OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The task that a source is built for. reseed: seed python, numpy and torch before un-lifted steps.

    numerics: the promise that the pixels must keep. policy: goes into a `fastpipe.batch.mend.Mender`.
    device: where the batches go next; images made there may stay. proof: of a script's own data set, whose
    samples its own `__getitem__` makes.
    """

    dataset: Any
    plan: Plan
    workers: WorkerOptions
    reseed: bool
    policy: Policy = field(default_factory=Policy)
    numerics: Numerics = "exact"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    proof: Proof | None = None


class BatchSource(Protocol):
    """Yields one HostBatch for each request, in the stream's order."""

    def base_seed(self) -> int:
        """The key of lifted draws of the next epoch when the user gave no seed."""

    def start(self, stream: RequestStream, *, again: bool = False) -> Iterator[HostBatch]:
        """Begin to serve the stream at once. again: a restart within an epoch."""

    def close(self) -> None:
        """Free the resources that outlive an epoch."""


class Backend(Protocol):
    """One way from files to packed batches. Resume and resolution come with the stream's requests."""

    name: str
    capabilities: Capabilities

    def probe(self, machine: Machine) -> Availability:
        """Whether it can run here. Never raises."""

    def supports(self, plan: Plan, numerics: Numerics) -> Support:
        """Whether it can serve this plan with these numerics, and how."""

    def build(self, job: Job) -> BatchSource:
        """A source for the job."""
