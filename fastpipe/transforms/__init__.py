"""Specs of the steps fastpipe knows, and the lifting of torchvision pipelines into a plan."""

from __future__ import annotations

from fastpipe.transforms.levels import output_dtype, table
from fastpipe.transforms.lift import Lifted, flatten, lift
from fastpipe.transforms.merge import merge, with_size
from fastpipe.transforms.mix_specs import ColOut, CutMix, MixUp, RandomChoice
from fastpipe.transforms.policy_specs import RandAugment, TrivialAugmentWide, timm_rand_augment
from fastpipe.transforms.resize_spec import Resize
from fastpipe.transforms.specs import (
    HorizontalFlip,
    Normalize,
    RandomErasing,
    RandomResizedCrop,
    ResizeCrop,
    ToFloat,
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
