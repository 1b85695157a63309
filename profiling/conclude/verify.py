"""Fixes from what was measured, and `--verify`: apply the runnable ones, measure, keep the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torchvision import transforms as T

from fastpipe.profiling import names
from fastpipe.profiling.conclude.fixes import Fix
from fastpipe.profiling.conclude.history import Checked, remember
from fastpipe.profiling.conclude.predict import Basis
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.together import time_variants
from fastpipe.transforms import RandAugment

__all__ = ["verify"]


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
        workers = fix.variant.workers if names.about(fix.id, names.WORKERS) else basis.workers
        missing = not any(isinstance(spec, RandAugment) for spec in inputs.augment)
        added = fix.id == names.DEVICE_AUGMENTATION and missing
        with_policy = _with_randaugment(transform) if added else None
        variants[fix.id] = replace(fix.variant, workers=workers, transform=with_policy)
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
    predicted = {fix.id: fix.loader_images_per_s for fix in fixes}
    checked = [
        Checked(
            fix=names.words(id),
            predicted=predicted[id].median,
            low=predicted[id].low,
            high=predicted[id].high,
            measured=timed[id].timing.images_per_s.median,
        )
        for id in variants
    ]
    remember(checked)
    return tuple(checked)


def _with_randaugment(transform: Any) -> Any:
    """The pipeline with one operation of RandAugment before its ToTensor."""
    steps = list(transform.transforms)
    place = next(place for place, step in enumerate(steps) if isinstance(step, T.ToTensor))
    return T.Compose([*steps[:place], T.RandAugment(num_ops=1, magnitude=9), *steps[place:]])
