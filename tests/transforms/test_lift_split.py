"""Pipelines as people write them, and how each is split between decoder, workers and device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode as Mode

from fastpipe.transforms import (
    HorizontalFlip,
    Normalize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ResizeCrop,
    ToFloat,
    TrivialAugmentWide,
    lift,
)
from fastpipe.types import Spec

MEAN, STD, FLOAT = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), torch.float32
# Shared between the pipelines, which must leave them as they are.
NORM, NORM_V2, TENSOR, V1_FLIP = (
    v1.Normalize(MEAN, STD),
    v2.Normalize(MEAN, STD),
    v1.ToTensor(),
    v1.RandomHorizontalFlip(),
)
NORMALIZE = Normalize(mean=MEAN, std=STD)
MULTIPLY = ToFloat(rule="multiply")
FLIP, CROP = HorizontalFlip(), RandomResizedCrop(size=(176, 176))
EVAL = ResizeCrop(resize=232, crop=(224, 224))


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 280, 3), dtype=np.uint8))


# Pipelines of the world -> (decode, number of steps on the worker, device).
Split = tuple[Spec | None, int, tuple[Spec, ...]]
KNOWN: dict[str, tuple[Any, Split]] = {
    "torchvision reference, training": (
        v1.Compose(
            [
                v1.RandomResizedCrop(176, interpolation=Mode.BILINEAR, antialias=True),
                v1.RandomHorizontalFlip(0.5),
                v1.TrivialAugmentWide(interpolation=Mode.BILINEAR),
                v1.PILToTensor(),
                v1.ConvertImageDtype(FLOAT),
                NORM,
                v1.RandomErasing(p=0.1),
            ]
        ),
        (
            CROP,
            0,
            (FLIP, TrivialAugmentWide(interpolation="bilinear"), ToFloat(), NORMALIZE, RandomErasing(p=0.1)),
        ),
    ),
    "torchvision reference, training with v2": (
        v2.Compose(
            [
                v2.RandomResizedCrop(176, interpolation=Mode.BILINEAR, antialias=True),
                v2.RandomHorizontalFlip(0.5),
                v2.RandAugment(magnitude=5),
                v2.PILToTensor(),
                v2.ToDtype(FLOAT, scale=True),
                NORM_V2,
                v2.RandomErasing(p=0.1),
                v2.ToPureTensor(),
            ]
        ),
        (
            CROP,
            0,
            (
                FLIP,
                RandAugment(magnitude=5, space="torchvision_v2"),
                MULTIPLY,
                NORMALIZE,
                RandomErasing(p=0.1),
            ),
        ),
    ),
    "torchvision reference, evaluation": (
        v1.Compose(
            [
                v1.Resize(232),
                v1.CenterCrop(224),
                v1.PILToTensor(),
                v1.ConvertImageDtype(FLOAT),
                NORM,
            ]
        ),
        (EVAL, 0, (ToFloat(), NORMALIZE)),
    ),
    "torchvision reference, tensor backend": (
        v2.Compose(
            [
                v2.ToImage(),
                v2.Resize(232, antialias=True),
                v2.CenterCrop(224),
                v2.ToDtype(FLOAT, scale=True),
                NORM_V2,
                v2.ToPureTensor(),
            ]
        ),
        (None, 3, (MULTIPLY, NORMALIZE)),
    ),
    "torchvision documentation, v2": (
        v2.Compose(
            [
                v2.ToImage(),
                v2.ToDtype(torch.uint8, scale=True),
                v2.RandomResizedCrop(176, antialias=True),
                v2.RandomHorizontalFlip(p=0.5),
                v2.ToDtype(FLOAT, scale=True),
                NORM_V2,
            ]
        ),
        (None, 3, (FLIP, MULTIPLY, NORMALIZE)),
    ),
    "weights.transforms()": (
        torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms(),
        (EVAL, 0, (ToFloat(), NORMALIZE)),
    ),
    "PyTorch ImageNet example": (
        v1.Compose([v1.RandomResizedCrop(176), V1_FLIP, TENSOR, NORM]),
        (CROP, 0, (FLIP, ToFloat(), NORMALIZE)),
    ),
    "CIFAR": (
        v1.Compose([v1.RandomCrop(32, padding=4), V1_FLIP, TENSOR, v1.Normalize((0.5,), (0.5,))]),
        (
            ResizeCrop(crop=(32, 32), where="random", padding=(4, 4, 4, 4)),
            0,
            (FLIP, ToFloat(), Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
        ),
    ),
    "resize, then a random crop": (
        v1.Compose([v1.Resize(256, interpolation=Mode.BICUBIC), v1.RandomCrop(224), TENSOR]),
        (ResizeCrop(resize=256, crop=(224, 224), where="random", interpolation="bicubic"), 0, (ToFloat(),)),
    ),
    "one transform": (TENSOR, (None, 0, (ToFloat(),))),
    "uint8 output": (
        v1.Compose([v1.Resize((96, 128)), v1.RandomHorizontalFlip(0.2), v1.PILToTensor()]),
        (ResizeCrop(resize=(96, 128)), 0, (HorizontalFlip(p=0.2),)),
    ),
    "nn.Sequential": (
        nn.Sequential(v2.CenterCrop((8, 12)), v2.ToImage(), v2.ToDtype(torch.bfloat16)),
        (ResizeCrop(crop=(8, 12)), 0, (ToFloat(scale=False, dtype="bfloat16"),)),
    ),
    "nested Compose": (
        v1.Compose(
            [v1.Compose([v1.Resize([232]), v2.Compose([v2.CenterCrop([224])])]), v1.Compose([TENSOR])]
        ),
        (EVAL, 0, (ToFloat(),)),
    ),
    "no-ops here and there": (
        v2.Compose(
            [
                v2.RGB(),
                v2.Resize(232),
                v2.Identity(),
                v2.CenterCrop(224),
                nn.Identity(),
                v2.ToImage(),
                v2.ToPureTensor(),
                v2.ToDtype(FLOAT, scale=True),
                v2.ToDtype(FLOAT, scale=True),
                v2.RGB(),
            ]
        ),
        (EVAL, 0, (MULTIPLY,)),
    ),
    "a jitter in the middle": (
        v1.Compose(
            [
                v1.RandomResizedCrop(176),
                V1_FLIP,
                v1.ColorJitter(0.4),
                TENSOR,
                NORM,
            ]
        ),
        (CROP, 2, (ToFloat(), NORMALIZE)),
    ),
    "a jitter before the crop": (
        v1.Compose([v1.ColorJitter(0.4), v1.RandomResizedCrop(176), V1_FLIP, TENSOR]),
        (None, 2, (FLIP, ToFloat())),
    ),
    "a flip before the crop": (
        v1.Compose([V1_FLIP, v1.RandomResizedCrop(176), TENSOR]),
        (None, 2, (ToFloat(),)),
    ),
    "a second crop": (
        v1.Compose([v1.RandomResizedCrop(176), v1.CenterCrop(160), V1_FLIP, TENSOR]),
        (CROP, 1, (FLIP, ToFloat())),
    ),
    "a crop, then a resize": (
        v1.Compose([v1.CenterCrop(100), v1.Resize(50), TENSOR]),
        (ResizeCrop(crop=(100, 100)), 1, (ToFloat(),)),
    ),
    "flip after RandAugment": (
        v1.Compose([v1.RandomResizedCrop(176), v1.RandAugment(), V1_FLIP, TENSOR]),
        (CROP, 1, (FLIP, ToFloat())),
    ),
    "flip around RandAugment": (
        v1.Compose(
            [
                v1.RandomResizedCrop(176),
                v1.RandomHorizontalFlip(0.1),
                v1.RandAugment(),
                v1.RandomHorizontalFlip(0.2),
                TENSOR,
            ]
        ),
        (CROP, 2, (HorizontalFlip(p=0.2), ToFloat())),
    ),
    "flip after Normalize": (
        v1.Compose([v1.RandomResizedCrop(176), TENSOR, NORM, V1_FLIP]),
        (CROP, 0, (FLIP, ToFloat(), NORMALIZE)),
    ),
    "two flips": (
        v1.Compose([v1.RandomHorizontalFlip(0.1), v1.RandomHorizontalFlip(0.2), TENSOR]),
        (None, 1, (HorizontalFlip(p=0.2), ToFloat())),
    ),
    "the same flip twice in a Sequential": (
        nn.Sequential(*[v2.RandomHorizontalFlip(0.3)] * 2, v2.ToImage()),
        (None, 1, (HorizontalFlip(p=0.3),)),
    ),
    "two policies": (
        v1.Compose([v1.RandAugment(), v1.TrivialAugmentWide(), TENSOR]),
        (None, 1, (TrivialAugmentWide(), ToFloat())),
    ),
    "RandAugment without operations": (
        v1.Compose([v1.RandAugment(num_ops=0), TENSOR]),
        (None, 0, (ToFloat(),)),
    ),
    "erasing of uint8": (
        v1.Compose([v1.RandomCrop(8), v1.PILToTensor(), v1.RandomErasing(), v1.ConvertImageDtype(FLOAT)]),
        (ResizeCrop(crop=(8, 8), where="random"), 2, (ToFloat(),)),
    ),
    "a policy on tensors": (
        v2.Compose([v2.CenterCrop(8), v2.ToImage(), v2.RandAugment(), v2.ToDtype(FLOAT)]),
        (ResizeCrop(crop=(8, 8)), 2, (ToFloat(scale=False),)),
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_split(name: str) -> None:
    transform, (decode, num_host, device) = KNOWN[name]
    lifted = lift(transform, sample=photo())
    assert lifted.plan is not None, lifted.reason
    assert (lifted.plan.decode, len(lifted.plan.host), lifted.plan.device) == (decode, num_host, device)
    assert lifted.plan.notes == lifted.notes
    order = ["decoder", "worker", "device"]
    where = [note.where for note in lifted.notes]
    assert where == sorted(where, key=order.index)
    assert where.count("worker") == num_host
    assert all(note.step and note.why for note in lifted.notes)
