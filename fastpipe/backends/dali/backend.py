"""NVIDIA DALI: decodes our boxes in its own threads, driven by our order and our random numbers."""

from __future__ import annotations

import os

import torch

from fastpipe.backends.base import BatchSource, Capabilities, Job, Numerics
from fastpipe.backends.dali.pipeline import Graph, load_dali
from fastpipe.backends.dali.source import DaliSource
from fastpipe.backends.dali.trial import mixed_form
from fastpipe.errors import FastpipeError
from fastpipe.extras import install_command
from fastpipe.transforms import RandomResizedCrop, ResizeCrop
from fastpipe.types import Availability, Machine, Plan, Support

_REMEDY = f"{install_command('dali')} (CUDA 13), or nvidia-dali-cuda120; neither needs a GPU"


class DaliBackend:
    """Serves plans whose steps are all known; with numerics="exact" Pillow resizes, with "fast" DALI."""

    name = "dali"
    capabilities = Capabilities(
        storage=("folder", "beton", "mixed"),
        numerics=("exact", "fast"),
        host_steps=False,
        on_error=("raise", "skip", "replace"),
        any_storage=True,
        fast_resize="dali",
        workers="threads",
    )

    def probe(self, machine: Machine) -> Availability:
        """Whether DALI can be imported; no GPU is needed."""
        try:
            version = load_dali().__version__
        except (FastpipeError, Exception) as error:  # importing 0.5 GB of libraries can fail in many ways
            return Availability(ok=False, reason=f"{type(error).__name__}: {error}", remedy=_REMEDY)
        return Availability(ok=True, reason=f"DALI {version} on {machine.cpus:g} CPUs")

    def supports(self, plan: Plan, numerics: Numerics) -> Support:
        """Every plan without the script's own steps."""
        if plan.host:
            return Support(answer="no", reason="runs no Python steps on single images")
        resizes = "Pillow resizes" if numerics == "exact" else "DALI resizes if the filter is bilinear"
        reason = f"decodes single-scan JPEGs within the crop's box, and Pillow decodes the rest; {resizes}"
        if numerics == "fast" and _mixed_is_asked():
            reason += _where_mixed()
        return Support(answer="yes", reason=reason)

    def build(self, job: Job) -> BatchSource:
        """A source that starts threads, and no process."""
        load_dali()
        return DaliSource(job, graph_of(job))


def graph_of(job: Job) -> Graph:
    """The part of this job that DALI does: with numerics="fast" also the resize, if it is bilinear."""
    spec = job.plan.decode
    if job.numerics != "fast" or not isinstance(spec, RandomResizedCrop | ResizeCrop):
        return Graph()
    resizes = isinstance(spec, RandomResizedCrop) or spec.resize is not None
    if not resizes or spec.interpolation != "bilinear":
        return Graph()
    cut = isinstance(spec, ResizeCrop) and spec.crop is not None
    if not _mixed_is_asked():
        return Graph(resize=True, cut=cut)
    device = _device_number(job.device)
    form, _ = mixed_form(device)
    return Graph(resize=True, cut=cut, mixed=form or "", device=device)


def _mixed_is_asked() -> bool:
    return os.environ.get("FASTPIPE_DALI_MIXED") == "1"


def _device_number(device: torch.device | None = None) -> int:
    """The GPU that the batches go to, else this process's current one: each rank decodes on its own GPU."""
    if device is not None and device.type == "cuda" and device.index is not None:
        return device.index
    return torch.cuda.current_device() if torch.cuda.is_available() else 0


def _where_mixed() -> str:
    form, reasons = mixed_form(_device_number())
    left_out = "".join(f"; not the form {name!r}: {why}" for name, why in reasons.items())
    return f"; decodes on the GPU in the form {form!r}{left_out}" if form else f"; on the CPU{left_out}"
