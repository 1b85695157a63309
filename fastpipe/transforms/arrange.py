"""The fixed order of the device stage, and the pipelines that fit it without changing a pixel's law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from fastpipe.transforms.levels import run_levels
from fastpipe.transforms.read import NotKnown
from fastpipe.transforms.specs import RandomErasing, ToFloat
from fastpipe.transforms.step_table import STEPS, Step, step_of
from fastpipe.types import Spec


def arrange(specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """The same work in the order of `step_table`; conversions and normalisations keep their own.

    A flip commutes with per-pixel steps and, in distribution, with erasing (its rectangle is as likely as the
    mirrored one), but not with a policy. An erasing before a normalisation becomes one after it, with the
    normalised value. NotKnown says what does not fit.
    """
    _check_order([step_of(spec) for spec in specs])
    ordered: list[Spec] = []
    tabled = _level_steps(specs)
    for step in STEPS:
        if step.in_table:
            ordered += tabled
            tabled = []
        else:
            ordered += [spec for spec in specs if isinstance(spec, step.specs)]
    return tuple(_after_levels(spec, specs) if isinstance(spec, RandomErasing) else spec for spec in ordered)


def _check_order(steps: Sequence[Step]) -> None:
    """Raise NotKnown for two steps of one place, and for two that cannot be brought into order."""
    for step in STEPS:
        if not step.in_table and steps.count(step) > 1:
            raise NotKnown(f"the device stage runs one {step.name}, and a later step is another one")
    for place, later in enumerate(steps):
        for earlier in steps[:place]:
            if earlier.in_table and later.in_table:
                continue
            swapped = STEPS.index(earlier) > STEPS.index(later)
            if swapped and later.kind not in earlier.commutes and earlier.kind not in later.commutes:
                raise NotKnown(
                    f"the device stage does {later.name} before {earlier.name}, and here it comes after"
                )


def _level_steps(specs: Sequence[Spec]) -> list[Spec]:
    """Conversions and normalisations, without casts to the dtype that the image already has."""
    kept: list[Spec] = []
    dtype = ""
    for spec in specs:
        if isinstance(spec, ToFloat):
            if spec.dtype == dtype:
                continue
            dtype = spec.dtype
        if step_of(spec).in_table:
            kept.append(spec)
    return kept


def _after_levels(erasing: RandomErasing, specs: Sequence[Spec]) -> RandomErasing:
    place = specs.index(erasing)
    if not any(step_of(spec).in_table for spec in specs[place:]):
        return erasing
    before = run_levels(specs[:place], torch.zeros(3, 1, dtype=torch.uint8, device="cpu"))
    value = torch.tensor(erasing.value, dtype=before.dtype, device="cpu").view(3, 1)
    red, green, blue = run_levels(specs[place:], value).flatten().tolist()
    return replace(erasing, value=(red, green, blue))
