"""Worker processes that decode with Pillow: torchvision's pixels, one packed buffer per batch."""

from __future__ import annotations

from fastpipe.backends.base import OWN, BatchSource, Capabilities, Job, Numerics
from fastpipe.batch import FolderWork, WorkerPool
from fastpipe.batch.own.work import OwnWork
from fastpipe.types import Availability, Machine, Plan, Support


class TorchvisionBackend:
    """Serves every lifted plan over image files; needs nothing beyond the core install."""

    name = "torchvision"
    capabilities = Capabilities(
        storage=("folder", "beton", "mixed", OWN),
        numerics=("exact", "fast"),
        host_steps=True,
        on_error=("raise", "skip", "replace"),
        any_storage=True,
    )

    def probe(self, machine: Machine) -> Availability:
        """Always there: Pillow and torchvision are core dependencies."""
        return Availability(ok=True, reason=f"Pillow on {machine.cpus:g} CPUs")

    def supports(self, plan: Plan, numerics: Numerics) -> Support:
        """Every lifted plan, un-lifted steps included."""
        return Support(answer="yes", reason="decodes, crops and resizes with Pillow, as torchvision does")

    def build(self, job: Job) -> BatchSource:
        """Workers that run the plan's decode and host steps, or a script's own data set around them."""
        if job.proof is not None:
            own = OwnWork(job.dataset, job.plan, job.proof, reseed=job.reseed, on_error=job.policy.on_error)
            return WorkerPool(own, job.workers)
        work = FolderWork(job.dataset, job.plan, reseed=job.reseed, policy=job.policy)
        return WorkerPool(work, job.workers)
