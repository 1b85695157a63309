"""turbo: our own JPEG crop decoder, in our own threads, with torchvision's pixels (docs/design/018)."""

from __future__ import annotations

from typing import Final

import torch

from fastpipe.backends.base import BatchSource, Capabilities, Job, Numerics
from fastpipe.backends.thread_source import ThreadSource
from fastpipe.backends.turbo.batch import BatchWork
from fastpipe.backends.turbo.native import availability, new_worker
from fastpipe.backends.turbo.truth import fault
from fastpipe.batch.mend import Mender
from fastpipe.types import Availability, Machine, Plan, Support

_EXACT: Final = (
    "decodes the crop alone of Huffman-coded JPEGs, with Pillow's pixels; crops images in memory; hands "
    "every other image to Pillow"
)
_FAST: Final = (
    "decodes the crop alone, at 1/2, 1/4 or 1/8 where it has pixels to spare, and resizes with Pillow's "
    "filter; crops images in memory; hands images that it does not decode to Pillow"
)


class TurboBackend:
    """Serves every plan without host steps, from every storage; threads leave the GIL for whole chunks."""

    name = "turbo"
    capabilities = Capabilities(
        storage=("folder", "beton", "mixed"),
        numerics=("exact", "fast"),
        host_steps=False,
        on_error=("raise", "skip", "replace"),
        any_storage=True,
        workers="threads",
    )

    def probe(self, machine: Machine) -> Availability:
        """Whether the native module was built and loads."""
        return availability()

    def supports(self, plan: Plan, numerics: Numerics) -> Support:
        """Every decode step; "exact" unless the module's pixels are not those of the installed Pillow."""
        if numerics == "fast":
            return Support(answer="yes_but", reason=_FAST)
        found = fault()
        return Support(answer="no", reason=found) if found else Support(answer="yes", reason=_EXACT)

    def build(self, job: Job) -> BatchSource:
        """A source whose threads are this process's. BackendError without the module."""
        pin = job.workers.pin_memory and torch.cuda.is_available()
        mender = Mender(job.dataset, job.policy)
        work = BatchWork(job.dataset, job.plan, mender, numerics=job.numerics, pin=pin)
        return ThreadSource(self.name, work, new_worker, job.workers)
