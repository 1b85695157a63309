"""FFCV's decoder and resize over a `.beton` file, in our own threads: no ffcv.Loader (docs/design/004)."""

from __future__ import annotations

from typing import Final

import torch

from fastpipe.backends.base import BatchSource, Capabilities, Job, Numerics
from fastpipe.backends.ffcv.batch import BatchWork
from fastpipe.backends.ffcv.native import availability, open_native
from fastpipe.backends.ffcv.sample import ThreadState
from fastpipe.backends.ffcv.turbojpeg import exact_fault
from fastpipe.backends.thread_source import ThreadSource
from fastpipe.batch.mend import Mender
from fastpipe.transforms import RandomResizedCrop, ResizeCrop
from fastpipe.types import Availability, Machine, Plan, Support

# Filters that INTER_AREA, an average over the covered pixels, may replace. Bicubic and Lanczos sharpen,
# nearest takes single pixels: a run that asks for those does not want an average.
_CLOSE_TO_AREA: Final = ("box", "bilinear", "hamming")
_DECODE: Final = "decodes with libjpeg-turbo's fast IDCT"
_EXACT: Final = (
    "decodes whole JPEGs with libjpeg-turbo's accurate IDCT and resizes with Pillow; Pillow alone handles "
    "progressive, CMYK, arithmetic, 12-bit and raw images"
)


class FfcvBackend:
    """Serves `.beton` files in threads, with FFCV's own numerics or, asked for "exact", with Pillow's."""

    name = "ffcv"
    capabilities = Capabilities(
        storage=("beton",),
        numerics=("exact", "fast"),
        host_steps=False,
        on_error=("raise", "skip", "replace"),
        fast_resize="area",
        workers="threads",
    )

    def probe(self, machine: Machine) -> Availability:
        """Whether FFCV's library is installed and loads. The package itself is not imported."""
        return availability()

    def supports(self, plan: Plan, numerics: Numerics) -> Support:
        """`yes_but` under "fast": the difference from Pillow's pixels; `no` if it cannot keep numerics."""
        if numerics == "exact":
            fault = exact_fault()
            return Support(answer="no", reason=fault) if fault else Support(answer="yes", reason=_EXACT)
        spec = plan.decode
        resizes = isinstance(spec, RandomResizedCrop) or (
            isinstance(spec, ResizeCrop) and spec.resize is not None
        )
        if not resizes or not isinstance(spec, RandomResizedCrop | ResizeCrop):
            return Support(answer="yes_but", reason=f"{_DECODE} instead of Pillow's exact one")
        if spec.interpolation not in _CLOSE_TO_AREA:
            return Support(
                answer="no",
                reason=f"resizes with OpenCV's INTER_AREA, which is not close to {spec.interpolation}; "
                f"ask for one of {', '.join(_CLOSE_TO_AREA)}",
            )
        return Support(
            answer="yes_but",
            reason=f"{_DECODE} (at 1/2, 1/4 or 1/8 where the crop is over 2.5 times its target) and resizes "
            f"with OpenCV's INTER_AREA instead of Pillow's {spec.interpolation}",
        )

    def build(self, job: Job) -> BatchSource:
        """A source whose threads are this process's. MissingExtraError or BackendError without FFCV."""
        pin = job.workers.pin_memory and torch.cuda.is_available()
        mender = Mender(job.dataset, job.policy)
        work = BatchWork(job.dataset, job.plan, mender, open_native(), numerics=job.numerics, pin=pin)
        return ThreadSource(self.name, work, ThreadState, job.workers)
