"""Which settings of a known step have a spec, and which leave the step with torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torchvision.transforms import InterpolationMode as Mode

from fastpipe.transforms import (
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ResizeCrop,
    ToFloat,
    TrivialAugmentWide,
    lift,
)
from fastpipe.types import Plan, Spec

TENSOR = v1.ToTensor()


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8))


def plan_of(transform: Any) -> Plan:
    lifted = lift(transform)
    assert lifted.plan is not None, lifted.reason
    return lifted.plan


def random_crop(*padding: int) -> ResizeCrop:
    left, top, right, bottom = padding
    return ResizeCrop(crop=(9, 9), where="random", padding=(left, top, right, bottom))


# Settings of one step -> its spec, or None where it must stay with torchvision.
STEPS: list[tuple[Callable[[], Any], Spec | None]] = [
    (
        lambda: v1.RandomResizedCrop((3, 5), (0.2, 0.9), (0.5, 2.0), Mode.BICUBIC),
        RandomResizedCrop(size=(3, 5), scale=(0.2, 0.9), ratio=(0.5, 2.0), interpolation="bicubic"),
    ),
    (
        lambda: v2.RandomResizedCrop([7], interpolation="lanczos"),
        RandomResizedCrop(size=(7, 7), interpolation="lanczos"),
    ),
    (
        lambda: v2.RandomResizedCrop(7, interpolation=0),
        RandomResizedCrop(size=(7, 7), interpolation="nearest"),
    ),
    (
        lambda: v1.RandomResizedCrop(7, interpolation=Mode.NEAREST_EXACT),
        RandomResizedCrop(size=(7, 7), interpolation="nearest"),
    ),
    (lambda: v1.RandomResizedCrop(7, scale=(0.0, 1.0)), None),
    (lambda: v1.Resize(9), ResizeCrop(resize=9)),
    (lambda: v1.Resize((9,)), ResizeCrop(resize=9)),
    (lambda: v1.Resize((9, 4)), ResizeCrop(resize=(9, 4))),
    (lambda: v2.Resize([9, 4], interpolation="hamming"), ResizeCrop(resize=(9, 4), interpolation="hamming")),
    (lambda: v2.Resize(9, interpolation=Image.Resampling.BOX), ResizeCrop(resize=9, interpolation="box")),
    (lambda: v1.Resize(9, max_size=20), None),
    (lambda: v2.Resize(None, max_size=20), None),
    (lambda: v1.RandomCrop(9, padding=(1,)), random_crop(1, 1, 1, 1)),
    (lambda: v1.RandomCrop(9, padding=(1, 2)), random_crop(1, 2, 1, 2)),
    (lambda: v1.RandomCrop(9, padding=(1, 2, 3, 4)), random_crop(1, 2, 3, 4)),
    (lambda: v2.RandomCrop(9, padding=(1, 2, 3, 4)), random_crop(1, 2, 3, 4)),
    (lambda: v2.RandomCrop(9, padding=[1, 2], fill=(0, 0, 0)), random_crop(1, 2, 1, 2)),
    (lambda: v2.RandomCrop(9, fill=7), ResizeCrop(crop=(9, 9), where="random")),
    (lambda: v1.RandomCrop(9, padding=4, fill=7), None),
    (lambda: v1.RandomCrop(9, padding=4, padding_mode="reflect"), None),
    (lambda: v1.RandomCrop(9, padding=-1), None),
    (lambda: v1.RandomCrop(9, pad_if_needed=True), None),
]


@pytest.mark.parametrize(("make", "expected"), STEPS)
def test_crop_settings(make: Callable[[], Any], expected: Spec | None) -> None:
    plan = plan_of(v1.Compose([make(), TENSOR]))
    assert plan.decode == expected
    assert len(plan.host) == (expected is None)


POLICIES: list[tuple[Callable[[], Any], Spec | None]] = [
    (
        lambda: v1.RandAugment(3, 7, 11, Mode.BILINEAR, [1.9, 2, 3]),
        RandAugment(
            space="torchvision",
            num_ops=3,
            magnitude=7,
            num_magnitude_bins=11,
            interpolation="bilinear",
            fill=(1, 2, 3),
        ),
    ),
    (
        lambda: v2.RandAugment(interpolation="bilinear", fill=128),
        RandAugment(interpolation="bilinear", fill=(128, 128, 128), space="torchvision_v2"),
    ),
    (lambda: v1.TrivialAugmentWide(10, fill=[7]), TrivialAugmentWide(num_magnitude_bins=10, fill=(7, 7, 7))),
    (
        lambda: v2.TrivialAugmentWide(interpolation=2),
        TrivialAugmentWide(interpolation="bilinear", space="torchvision_v2"),
    ),
    (lambda: v1.RandAugment(interpolation=Mode.BICUBIC), None),
    (lambda: v1.RandAugment(magnitude=31), None),
    (lambda: v1.RandAugment(magnitude=-1), None),
    (lambda: v1.TrivialAugmentWide(num_magnitude_bins=1), None),
    (lambda: v1.RandAugment(fill=[300]), None),
    (lambda: v2.RandAugment(fill={Image.Image: 3}), None),
    (lambda: v1.AutoAugment(), None),
    (lambda: v1.AugMix(), None),
]


@pytest.mark.parametrize(("make", "expected"), POLICIES)
def test_policy_settings(make: Callable[[], Any], expected: Spec | None) -> None:
    plan = plan_of(v1.Compose([make(), TENSOR]))
    assert plan.device == ((ToFloat(),) if expected is None else (expected, ToFloat()))


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: v1.RandomErasing(), (0.0, 0.0, 0.0)),
        (lambda: v1.RandomErasing(value=0.5), (0.5, 0.5, 0.5)),
        (lambda: v1.RandomErasing(value=(1, 2, 3)), (1.0, 2.0, 3.0)),
        (lambda: v2.RandomErasing(value=[0.1, 0.2, 0.3]), (0.1, 0.2, 0.3)),
        (lambda: v1.RandomErasing(value="random"), None),
        (lambda: v2.RandomErasing(value="random"), None),
    ],
)
def test_erasing_settings(make: Callable[[], Any], value: Any) -> None:
    lifted = lift(v1.Compose([TENSOR, make()]), sample=photo())
    if value is None:
        # It works on the float tensor, where nothing can be lifted any more.
        assert lifted.plan is None and "float32 tensor" in lifted.reason
    else:
        assert lifted.plan is not None and lifted.plan.device == (ToFloat(), RandomErasing(value=value))
