"""Specs of the steps fastpipe knows, and the lifting of torchvision pipelines into a plan."""

from __future__ import annotations

from fastpipe.transforms.levels import output_dtype, table
from fastpipe.transforms.lift import Lifted, flatten, lift
from fastpipe.transforms.merge import merge, with_size
from fastpipe.transforms.specs import (
    ColOut,
    CutMix,
    HorizontalFlip,
    MixUp,
    Normalize,
    RandAugment,
    RandomChoice,
    RandomErasing,
    RandomResizedCrop,
    Resize,
    ResizeCrop,
    ToFloat,
    TrivialAugmentWide,
    timm_rand_augment,
)
from fastpipe.transforms.trial import preserved_rng

__all__ = [
    "ColOut",
    "CutMix",
    "HorizontalFlip",
    "Lifted",
    "MixUp",
    "Normalize",
    "RandAugment",
    "RandomChoice",
    "RandomErasing",
    "RandomResizedCrop",
    "Resize",
    "ResizeCrop",
    "ToFloat",
    "TrivialAugmentWide",
    "flatten",
    "lift",
    "merge",
    "output_dtype",
    "preserved_rng",
    "table",
    "timm_rand_augment",
    "with_size",
]
