"""The fixed order of the device stage, and the pipelines that fit it without changing a pixel's law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from fastpipe.transforms.levels import run_levels
from fastpipe.transforms.read import NotKnown
from fastpipe.transforms.specs import (
    HorizontalFlip,
    Normalize,
    RandAugment,
    RandomErasing,
    ToFloat,
    TrivialAugmentWide,
)
from fastpipe.types import Spec

__all__ = ["arrange"]


def arrange(specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """The same work in device order: flip, policy, conversions and normalisations, erasing.

    A flip commutes with per-pixel steps and, in distribution, with erasing (its rectangle is as likely as the
    mirrored one), but not with a policy. An erasing before a normalisation becomes one after it, with the
    normalised value. NotKnown says what does not fit.
    """
    flips = [spec for spec in specs if isinstance(spec, HorizontalFlip)]
    policies = [spec for spec in specs if isinstance(spec, RandAugment | TrivialAugmentWide)]
    erasings = [spec for spec in specs if isinstance(spec, RandomErasing)]
    for name, found in (
        ("flip", flips),
        ("RandAugment or TrivialAugmentWide", policies),
        ("erasing", erasings),
    ):
        if len(found) > 1:
            raise NotKnown(f"the device stage runs one {name}, and a later step is another one")
    if flips and policies and specs.index(policies[0]) < specs.index(flips[0]):
        raise NotKnown("the device stage flips before it augments, but here a flip follows")
    erasings = [_after_levels(spec, specs) for spec in erasings]
    return (*flips, *policies, *_level_steps(specs), *erasings)


def _level_steps(specs: Sequence[Spec]) -> list[Spec]:
    """Conversions and normalisations, without casts to the dtype that the image already has."""
    kept: list[Spec] = []
    dtype = ""
    for spec in specs:
        if isinstance(spec, ToFloat):
            if spec.dtype == dtype:
                continue
            dtype = spec.dtype
        if isinstance(spec, ToFloat | Normalize):
            kept.append(spec)
    return kept


def _after_levels(erasing: RandomErasing, specs: Sequence[Spec]) -> RandomErasing:
    place = specs.index(erasing)
    if not any(isinstance(spec, ToFloat | Normalize) for spec in specs[place:]):
        return erasing
    before = run_levels(specs[:place], torch.zeros(3, 1, dtype=torch.uint8, device="cpu"))
    value = torch.tensor(erasing.value, dtype=before.dtype, device="cpu").view(3, 1)
    red, green, blue = run_levels(specs[place:], value).flatten().tolist()
    return replace(erasing, value=(red, green, blue))
