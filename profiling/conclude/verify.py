"""Fixes from the measurements, and `--verify`: apply the runnable ones, measure, keep the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torchvision import transforms as T

from fastpipe.profiling import names
from fastpipe.profiling.conclude.fixes import Fix
from fastpipe.profiling.conclude.history import Checked, remember
from fastpipe.profiling.conclude.predict import Basis
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.setting import Setting
from fastpipe.profiling.measure.together import time_variants
from fastpipe.transforms import RandAugment

_REPEATS = 4


def verify(
    setting: Setting, inputs: Inputs, fixes: Sequence[Fix], basis: Basis, *, batch_size: int
) -> tuple[Checked, ...]:
    """Run the runnable fixes in alternating epochs, and compare the loaders' rates with the predictions.

    The results are kept, and the next run shows them.
    """
    variants = {}
    for fix in fixes:
        if fix.variant is None:
            continue
        workers = fix.variant.workers if names.about(fix.id, names.WORKERS) else basis.workers
        missing = not any(isinstance(spec, RandAugment) for spec in inputs.augment)
        added = fix.id == names.DEVICE_AUGMENTATION and missing
        with_policy = _with_randaugment(setting.transform) if added else None
        variants[fix.id] = replace(fix.variant, workers=workers, transform=with_policy)
    rate = basis.curve.at(max(1, min(basis.workers, int(basis.cpus)))).median
    timed = time_variants(setting, inputs, variants, batch_size=batch_size, rate=rate, repeats=_REPEATS)
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
