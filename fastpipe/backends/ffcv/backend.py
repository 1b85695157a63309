"""FFCV's decoder and resize over a `.beton` file, in our own threads: no ffcv.Loader (docs/design/004)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Final

import torch

from fastpipe.backends.base import BatchSource, Capabilities, Job, Numerics
from fastpipe.backends.ffcv.batch import BatchWork
from fastpipe.backends.ffcv.native import availability, open_native
from fastpipe.backends.ffcv.sample import ThreadState
from fastpipe.backends.ffcv.threads import Batches
from fastpipe.backends.ffcv.turbojpeg import exact_fault
from fastpipe.batch import RequestStream, WorkerOptions
from fastpipe.batch.failure import Failure, Results
from fastpipe.batch.host_draws import draw_base_seed
from fastpipe.batch.mend import Mender
from fastpipe.batch.pool import next_base_seed
from fastpipe.errors import NoEffectWarning
from fastpipe.transforms import RandomResizedCrop, ResizeCrop
from fastpipe.types import Availability, HostBatch, Machine, Plan, Support

_PREFETCH: Final = 2  # batches per thread, torch's own default
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
        return FfcvSource(job)


class FfcvSource:
    """A source of packed uint8 batches, decoded by `num_workers` threads or, with 0, by the caller's."""

    def __init__(self, job: Job) -> None:
        self._options = job.workers
        self._base_seed: int | None = None
        _warn_of_no_effect(job.workers)
        pin = job.workers.pin_memory and torch.cuda.is_available()
        mender = Mender(job.dataset, job.policy)
        self._work = BatchWork(job.dataset, job.plan, mender, open_native(), numerics=job.numerics, pin=pin)

    def base_seed(self) -> int:
        """torch's base seed of the next iterator; of the first one if workers are persistent."""
        return next_base_seed(self._options.generator) if self._base_seed is None else self._base_seed

    def start(self, stream: RequestStream, *, again: bool = False) -> Iterator[HostBatch]:
        """An iterator over the batches. Draws a base seed as torch's iterator would, unless `again`."""
        options = self._options
        if not again and self._base_seed is None:
            draw_base_seed(options.generator)
            self._base_seed = stream.seed if options.persistent_workers else None
        if not options.num_workers:
            return Results(_in_place(stream, self._work))
        depth = options.num_workers * (options.prefetch_factor or _PREFETCH)
        return Batches(
            stream,
            self._work,
            ThreadState,
            threads=options.num_workers,
            depth=depth,
            timeout=options.timeout,
        )

    def close(self) -> None:
        """Only idle threads outlive an epoch, and they belong to the process."""


def _in_place(stream: RequestStream, work: BatchWork) -> Iterator[HostBatch | Failure]:
    state = ThreadState()
    for request in stream:
        try:
            batch: HostBatch | Failure = work(request, state, _never)
        except Exception as error:
            batch = Failure(error)
        yield batch
        del batch  # the consumer owns it now


def _never() -> bool:
    return False


def _warn_of_no_effect(options: WorkerOptions) -> None:
    useless = {
        "worker_init_fn": options.worker_init_fn is not None,
        "multiprocessing_context": options.multiprocessing_context is not None,
    }
    for name, given in useless.items():
        if given:
            warnings.warn(
                f"{name} has no effect with backend='ffcv', which starts threads and no worker processes",
                NoEffectWarning,
                stacklevel=2,
            )
    if options.pin_memory and not torch.cuda.is_available():
        warnings.warn("pin_memory has no effect: there is no CUDA device", NoEffectWarning, stacklevel=2)
