"""Frozen value objects that the rooms hand to each other. No logic, no I/O.

Letters used in shapes: B batch, H height, W width, C channel (RGB), K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "Applied",
    "Availability",
    "Batch",
    "Choice",
    "HostBatch",
    "Incident",
    "IntArray",
    "Machine",
    "Plan",
    "Request",
    "Sample",
    "Shard",
    "Size",
    "Spec",
    "StepNote",
    "Support",
]

IntArray = npt.NDArray[np.int64]
Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Base of every step that fastpipe knows by meaning rather than by running it."""

    kind: ClassVar[str] = "spec"

    def target(self, height: int, width: int, resolution: int | None = None) -> Size:
        """The size of images of height x width after a device step. resolution: the requested one."""
        return height, width


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One entry of a data set: where its bytes are and which class it has."""

    id: int
    path: str
    label: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """This process's place among the processes that train together."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a choice may depend on. `cpus` is the number that affinity and the cgroup quota leave."""

    cpus: float
    cuda_devices: int = 0
    cuda_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One batch as a worker sees it: everything a draw may depend on travels with it.

    `ids` and `repeats` are int64 [B]; `size` is the resolution of this batch, or None for the plan's own.
    `rank` is this process's among those that train together: draws for the whole batch depend on it.
    `asked` is what the sampler gave, for data sets that are not lifted; `ids` only key the draws then.
    `labels` are by place, if the script's `target_transform` has already run.
    A request without ids gives a batch without samples.
    """

    seed: int
    epoch: int
    batch: int
    ids: IntArray
    repeats: IntArray
    size: int | None = None
    rank: int = 0
    asked: Any = None
    labels: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A sample that could not be used normally, and the action taken; `str()` is the log line.

    sample_id: as the sampler gave it.
    key:     the file's path, or "BETON#index".
    action:  "skipped", "replaced" (by the sample `substitute`), or "rescued" (another decoder read it).
    lasting: the bytes are at fault: the quarantine list holds the sample for the next run.
    listed:  it came from the quarantine list and was not tried.
    """

    sample_id: Any
    key: str
    action: Literal["skipped", "replaced", "rescued"]
    reason: str
    substitute: int | None = None
    lasting: bool = True
    listed: bool = False

    def __str__(self) -> str:
        by = "" if self.substitute is None else f" by {self.substitute}"
        return f"{self.action} sample {self.sample_id!r}{by}: {self.reason}"


@dataclass(slots=True, kw_only=True)
class HostBatch:
    """A decoded batch on the host: `images` uint8 [B,H,W,3] C-contiguous, `labels` as collated.

    `request` holds the ids that are really in the batch (shorter after `on_error="skip"`).
    `incidents` says which samples were skipped, replaced or rescued. What is not known is None: `to_pillow`,
    how many images the backend handed to Pillow, by reason; `cpu_seconds` of the thread that made the batch.
    """

    images: torch.Tensor
    labels: Any
    request: Request
    incidents: tuple[Incident, ...] = ()
    to_pillow: dict[str, int] | None = None
    cpu_seconds: float | None = None

    def pin_memory(self, device: str | None = None) -> HostBatch:
        """Copy tensors that are not on a GPU to page-locked memory, so their transfer is asynchronous."""
        labels = self.labels.pin_memory() if isinstance(self.labels, torch.Tensor) else self.labels
        images = self.images if self.images.is_cuda else self.images.pin_memory()
        return replace(self, images=images, labels=labels)


@dataclass(slots=True, kw_only=True)
class Batch:
    """A batch as the device stage yields it, with the values drawn for it.

    With MixUp or CutMix, `labels` is float32 [B,K], `hard_labels` int64 [B] as they were, and `partner` int64
    [B] says whose image and label were mixed in; else both are None.
    `ready` is the CUDA event after which the tensors hold their values, or None on the CPU.
    """

    images: torch.Tensor
    labels: Any
    request: Request
    params: Any = None
    hard_labels: torch.Tensor | None = None
    partner: torch.Tensor | None = None
    ready: torch.cuda.Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """The output format of a source: `layout` is "NHWC" or "NCHW"."""

    size: Size | None
    dtype: torch.dtype
    layout: Literal["NHWC", "NCHW"]
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNote:
    """One line of `explain()`: a step, where it runs, and why there."""

    step: str
    where: Literal["decoder", "worker", "device", "torch"]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One operation on one image: its name, and the parameters that were drawn for it.

    words: the same for a reader, on one line; `str()` gives it.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A transform pipeline, split into what the decoder, the workers and the device stage do.

    decode: the crop and resize given to the decoder, or None for the whole image as it is.
    host:   callables that run on the worker after `decode`, on an RGB `PIL.Image`.
    device: specs that run on the uint8 batch in the order given.
    """

    decode: Spec | None = None
    host: tuple[Callable[[Any], Any], ...] = ()
    device: tuple[Spec, ...] = ()
    notes: tuple[StepNote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend can run here; if not, why, and the command that enables it."""

    ok: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Whether a backend can serve a plan: `yes`, `no`, or `yes_but` with the difference named."""

    answer: Literal["yes", "no", "yes_but"]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The backend taken, why, and why not the others."""

    backend: str
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)
