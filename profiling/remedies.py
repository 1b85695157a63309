"""Fixes from what was measured, and `--verify`: apply the runnable ones, measure, keep the errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torchvision import transforms as T

from fastpipe.profiling.explore import Explored
from fastpipe.profiling.fixes import Fix, Measures, rank
from fastpipe.profiling.history import Checked, remember
from fastpipe.profiling.inputs import Inputs
from fastpipe.profiling.predict import Basis
from fastpipe.profiling.stages import StageResult
from fastpipe.profiling.together import time_variants
from fastpipe.profiling.variants import Variant
from fastpipe.transforms import RandAugment

__all__ = ["find_fixes", "verify"]

_ACCURACY = {
    "backend dali": "none: the same pixels within the documented tolerance",
    ".beton, bytes kept": "none",
    ".beton, backend ffcv": "tolerance: FFCV's decoder and area resize give other pixels",
}
_REENCODED = "tolerance: images are stored smaller, crops of a small area are enlarged"


def find_fixes(
    basis: Basis,
    explored: Explored,
    loaders: Mapping[str, StageResult],
    others: Mapping[str, Variant],
    *,
    inside: bool = False,
) -> tuple[Fix, ...]:
    """Rank what could be done. inside: the device stage was timed with the recipe's RandAugment."""
    one = loaders.get("1 workers", loaders["fastpipe.DataLoader"]).timing
    backends = {}
    for name, variant in others.items():
        timing = loaders[name].timing
        accuracy = _ACCURACY.get(name, _REENCODED)
        backends[name] = (variant, timing.cpu_ms.median, timing.images_per_s.median, accuracy)
    read = next((cost for cost in basis.costs if cost.name == "read"), None)
    warm_ms = read.wall_ms if read is not None else 0.0
    return rank(
        basis,
        Measures(
            one_worker=(one.cpu_ms.median, one.images_per_s.median),
            backends=backends,
            read_ms=warm_ms,
            cold_read_ms=explored.read_ms("read cold"),
            pillow_randaugment_ms=explored.pillow_randaugment_ms,
            device_randaugment_ms=explored.device_ms("RandAugment"),
            randaugment_inside=inside,
            max_workers=max(1, int(basis.cpus)),
        ),
    )


def verify(
    inputs: Inputs,
    transform: Any,
    fixes: Sequence[Fix],
    basis: Basis,
    *,
    batch_size: int,
    window_s: float,
    device: torch.device,
    memory_format: Any,
) -> tuple[Checked, ...]:
    """Run what can be run, in alternating epochs, and compare the loaders' rates with the predicted.

    The results are kept for the next run to show.
    """
    variants = {}
    for fix in fixes:
        if fix.variant is None:
            continue
        workers = fix.variant.workers if fix.name.endswith(("worker", "workers")) else basis.workers
        missing = not any(isinstance(spec, RandAugment) for spec in inputs.augment)
        added = fix.name == "device augmentation" and missing
        with_policy = _with_randaugment(transform) if added else None
        variants[fix.name] = replace(fix.variant, workers=workers, transform=with_policy)
    timed = time_variants(
        inputs,
        transform,
        variants,
        batch_size=batch_size,
        rate=basis.curve.at(max(1, min(basis.workers, int(basis.cpus)))).median,
        window_s=window_s,
        workers=basis.workers,
        device=device,
        repeats=4,
        memory_format=memory_format,
    )
    predicted = {fix.name: fix.loader_images_per_s for fix in fixes}
    checked = [
        Checked(
            fix=name,
            predicted=predicted[name].median,
            low=predicted[name].low,
            high=predicted[name].high,
            measured=timed[name].timing.images_per_s.median,
        )
        for name in variants
    ]
    remember(checked)
    return tuple(checked)


def _with_randaugment(transform: Any) -> Any:
    """The pipeline with one operation of RandAugment before its ToTensor."""
    steps = list(transform.transforms)
    place = next(place for place, step in enumerate(steps) if isinstance(step, T.ToTensor))
    return T.Compose([*steps[:place], T.RandAugment(num_ops=1, magnitude=9), *steps[place:]])
