"""Loaders that do the same work differently: other worker counts, backends, files; timed in turns."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastpipe import DataLoader
from fastpipe.backends.registry import load
from fastpipe.choice.choose import refusal
from fastpipe.device.engines.protocol import EngineName
from fastpipe.errors import FastpipeError
from fastpipe.profiling.measure.device_wait import wait_for
from fastpipe.profiling.measure.inputs import Cycle, Inputs
from fastpipe.profiling.measure.timing import Repeat, Stopwatch
from fastpipe.profiling.names import Id
from fastpipe.storage import BetonLeaf, FolderLeaf, open_index, write_beton
from fastpipe.system.machine import this_machine
from fastpipe.types import Plan

MIN_REPEATS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """How one loader differs: its workers, backend, and the `.beton` file it reads instead of the folder."""

    workers: int
    backend: str = "torchvision"
    beton: str | None = None
    plain: bool = False
    transform: Any = None


def make_loader(
    inputs: Inputs,
    transform: Any,
    variant: Variant,
    *,
    batch_size: int,
    batches: int,
    memory_format: Any,
    engine: EngineName = "fused",
) -> Any:
    """A loader of `batches` batches over the sampled images; torch's own where the variant is plain.

    fastpipe's has the augmentations of `inputs`; torch's only those of the transform.
    """
    transform = transform if variant.transform is None else variant.transform
    ids = inputs.ids if variant.beton is None else list(range(len(inputs.samples)))
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "num_workers": variant.workers,
        "persistent_workers": variant.workers > 0,
        "sampler": Cycle(ids, batches * batch_size),
    }
    dataset = inputs.dataset(transform)
    if variant.plain:
        return torch.utils.data.DataLoader(dataset, pin_memory=torch.cuda.is_available(), **settings)
    settings |= {"backend": variant.backend, "memory_format": memory_format, "engine": engine}
    settings |= {"augment": list(inputs.augment), "num_classes": inputs.num_classes}
    if variant.beton is not None:
        return DataLoader(variant.beton, transform=transform, **settings)
    return DataLoader(dataset, **settings)


def epoch(loader: Any, device: torch.device) -> Repeat:
    """One whole epoch with its batches moved to the device, as a repeat of the process tree."""
    images = 0
    watch = Stopwatch()
    for batch, _ in loader:
        images += len(batch.to(device, non_blocking=True))
    wait_for(device)
    return watch.stop(images)


def alternate(loaders: Mapping[Id, Any], device: torch.device, repeats: int) -> dict[Id, list[Repeat]]:
    """Epochs of each loader in turn; the first of each is dropped."""
    timed: dict[Id, list[Repeat]] = {name: [] for name in loaders}
    for turn in range(max(MIN_REPEATS, repeats) + 1):
        for name, loader in loaders.items():
            repeat = epoch(loader, device)
            if turn > 0:
                timed[name].append(repeat)
    return timed


@contextlib.contextmanager
def beton_of(inputs: Inputs, max_resolution: int | None = None) -> Iterator[tuple[str, float]]:
    """A temporary `.beton` of the sampled images, and its size over that of their files.

    max_resolution: re-encodes images with a longer side. Ids are positions in `inputs.samples`.
    """
    with tempfile.TemporaryDirectory(prefix="fastpipe-profile-") as folder:
        source = Path(folder, "source")
        for place, sample in enumerate(inputs.samples):
            label = inputs.index.classes[int(inputs.index.label(sample.id))]
            target = source / label / f"{place:06}{Path(sample.path).suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(sample.path).resolve())
        path = Path(folder, "sampled.beton")
        write_beton(open_index(source), path, max_resolution=max_resolution, num_workers=0)
        before = sum(len(sample.data) for sample in inputs.samples)
        yield str(path), path.stat().st_size / max(before, 1)


def unavailable(backend: str, plan: Plan, *, beton: bool) -> str | None:
    """Why the backend cannot serve here, or None."""
    leaf = BetonLeaf if beton else FolderLeaf
    try:
        return refusal(load(backend), plan, this_machine(), numerics=leaf.numerics, storage=leaf.kind)
    except FastpipeError as error:
        return str(error)
