"""What a script asked of a loader: fastpipe's and torch's arguments as one frozen value."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
import torch.utils.data

from fastpipe.backends.base import Numerics
from fastpipe.batch import WorkerOptions
from fastpipe.batch.locate import usual_numerics
from fastpipe.batch.mend import OnError
from fastpipe.batch.nested import deciding_sampler
from fastpipe.batch.order import check_seed, length
from fastpipe.device.engines.protocol import EngineName
from fastpipe.device.place import resolve_device
from fastpipe.errors import ArgumentError
from fastpipe.loader.arguments import check_loader_arguments
from fastpipe.types import Spec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """Checked when it is made: in the loader's constructor, and again when an attribute is set.

    The fields are named after the loader's arguments and attributes; see `fastpipe.DataLoader`.
    """

    dataset: Any
    batch_size: int | None
    sampler: Any
    batch_sampler: Any
    num_workers: int
    collate_fn: Callable[[Any], Any]
    pin_memory: bool
    timeout: float
    worker_init_fn: Callable[[int], None] | None
    multiprocessing_context: Any
    generator: torch.Generator | None
    prefetch_factor: int | None
    persistent_workers: bool
    in_order: bool

    backend: str
    device: torch.device | str | int | None
    seed: int | None
    augment: Sequence[Spec] | None
    num_classes: int | None
    engine: EngineName
    numerics: Numerics | None
    dtype: torch.dtype | None
    memory_format: torch.memory_format
    on_error: OnError
    quarantine: str | os.PathLike[str] | Literal[False] | None
    max_bad: float
    strict_resume: bool
    strict_lift: bool

    def __post_init__(self) -> None:
        check_loader_arguments(
            dataset=self.dataset,
            backend=self.backend,
            engine=self.engine,
            numerics=self.numerics,
            dtype=self.dtype,
            memory_format=self.memory_format,
            on_error=self.on_error,
            num_classes=self.num_classes,
            quarantine=self.quarantine,
            max_bad=self.max_bad,
        )
        if self.seed is not None:
            check_seed(self.seed)
            if self.iterable:
                raise ArgumentError(
                    "seed keys draws by sample id, and an IterableDataset has no ids. Leave seed out"
                )

    @classmethod
    def of(cls, loader: object) -> Asked:
        """The value that the attributes of a loader describe."""
        return cls(**{field.name: getattr(loader, field.name) for field in fields(cls)})

    @property
    def iterable(self) -> bool:
        """Whether the data set has no ids."""
        return isinstance(self.dataset, torch.utils.data.IterableDataset)

    @property
    def batched(self) -> bool:
        """Whether samples are collated into batches."""
        return self.batch_sampler is not None

    @property
    def index_sampler(self) -> Any:
        """The sampler that yields the ids of a batch, or of a sample if nothing is collated."""
        return self.batch_sampler if self.batched else self.sampler

    @property
    def deciding_sampler(self) -> Any:
        """The sampler that decides the order, inside batch samplers."""
        return deciding_sampler(self.sampler, self.batch_sampler)

    @property
    def kept_numerics(self) -> Numerics:
        """The argument if given, else "exact" (torch's pixels) for image files, "fast" for a `.beton`."""
        return usual_numerics(self.dataset) if self.numerics is None else self.numerics

    @property
    def target(self) -> torch.device:
        """The device of lifted batches."""
        return resolve_device(self.device)

    def samples_in(self, batches: int) -> int:
        """The number of samples in this rank's epoch of that many batches.

        Below 0 (not known): the data set's number, or 0 if it has none.
        """
        size = self.batch_size or getattr(self.batch_sampler, "batch_size", None) or 1
        return batches * int(size) if batches >= 0 else length(self.dataset, 0)

    def worker_options(self, *, lifted: bool) -> WorkerOptions:
        """The workers: pinned memory if asked for, and for every lifted batch on its way to a GPU."""
        return WorkerOptions(
            num_workers=self.num_workers,
            pin_memory=self.pin_memory or (lifted and self.target.type == "cuda"),
            timeout=self.timeout,
            worker_init_fn=self.worker_init_fn,
            multiprocessing_context=self.multiprocessing_context,
            generator=self.generator,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.persistent_workers,
            in_order=self.in_order,
        )

    def need_lifting(self, *, resized: bool) -> list[str]:
        """The arguments given that only a lifted plan can honour. resized: a resolution was given."""
        asked = {
            "augment": self.augment,
            "resolution": resized,
            "dtype": self.dtype,
            "memory_format": self.memory_format is not torch.contiguous_format,
            "engine": self.engine == "none",
            "on_error='replace'": self.on_error == "replace",
        }
        return [name for name, given in asked.items() if given]
