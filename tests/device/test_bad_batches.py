"""Batches and magnitudes that no backend should hand over: a clear error before any kernel sees them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fastpipe import augment, kernels
from fastpipe.device import DeviceStage
from fastpipe.errors import ArgumentError, DataError
from fastpipe.types import HostBatch, Plan, Request

GOOD = HostBatch(
    images=torch.zeros((4, 6, 7, 3), dtype=torch.uint8),
    labels=torch.zeros(4, dtype=torch.int64),
    request=Request(seed=0, epoch=0, batch=0, ids=np.arange(4), repeats=np.zeros(4, np.int64)),
)
NOTHING = np.zeros(0, np.int64)
BATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "floats": ({"images": GOOD.images.float()}, r"images must be uint8 \[B, H, W, 3\].*float32"),
    "planes": ({"images": GOOD.images.permute(0, 3, 1, 2)}, r"Found: torch.uint8 \[4, 3, 6, 7\]"),
    "alpha": ({"images": torch.zeros((4, 6, 7, 4), dtype=torch.uint8)}, r"Found: torch.uint8 \[4, 6, 7, 4\]"),
    "one image": ({"images": GOOD.images[0]}, r"Found: torch.uint8 \[6, 7, 3\]"),
    "empty": (
        {"images": GOOD.images[:0], "request": replace(GOOD.request, ids=NOTHING, repeats=NOTHING)},
        "at least one image",
    ),
    "no pixels": ({"images": GOOD.images[:, :, :0]}, r"sides of 1\.\.65535 pixels. Found: 6 x 0"),
    "65,536 pixels": (
        {"images": torch.zeros((4, 1, 65_536, 3), dtype=torch.uint8)},
        r"sides of 1\.\.65535 pixels. Found: 1 x 65536",
    ),
    "too few labels": ({"labels": GOOD.labels[:3]}, "labels must be one per image, 4. Found: 3"),
    "too few ids": ({"images": GOOD.images[:2]}, "one id per image, 2. Found: 4"),
}


@pytest.mark.parametrize("engine", ["fused", "torch", "none"])
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_that_is_none(engine: Any, name: str) -> None:
    changes, words = BATCHES[name]
    plan = Plan(device=(augment.HorizontalFlip(), augment.ToFloat()))
    stage = DeviceStage(plan, device=torch.device("cpu"), engine=engine)
    stage(GOOD)
    with pytest.raises(DataError, match=words):
        stage(replace(GOOD, **changes))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: augment.HorizontalFlip(p=math.nan), "p must be a probability"),
        (lambda: augment.RandomErasing(value=(0.0, math.nan, 0.0)), "value must be finite numbers"),
        (lambda: augment.RandomErasing(scale=(math.nan, 0.3)), "scale must be an increasing pair"),
        (lambda: augment.Normalize(mean=(0.5, math.inf, 0.5), std=(1, 1, 1)), "mean must be finite numbers"),
        (lambda: augment.Normalize(mean=(0, 0, 0), std=(1, math.nan, 1)), "std must be finite numbers"),
        (lambda: augment.Resize(math.nan), "size must be one integer"),  # type: ignore[arg-type]
        (lambda: augment.RandAugment(space="torchvision", magnitude=math.nan), "magnitude must be in 0..30"),
        (lambda: augment.RandAugment(space="timm", magnitude=math.nan), "magnitude must be a finite level"),
        (lambda: augment.RandAugment(space="imagenet"), "space must be one of 'composer'"),  # type: ignore[arg-type]
        (lambda: augment.TrivialAugmentWide(space="composer"), "space must be"),  # type: ignore[arg-type]
    ],
)
def test_numbers_and_names_that_are_none(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


def test_an_unknown_operation_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"op must be one of identity, autocontrast.*Found: 'blur'"):
        kernels.apply_op(GOOD.images, "blur")


def test_classes_unknown_for_mixup() -> None:
    plan = Plan(device=(augment.ToFloat(), augment.MixUp(0.2)))
    with pytest.raises(ArgumentError, match=r"num_classes must be given for MixUp.*Pass num_classes="):
        DeviceStage(plan, device=torch.device("cpu"))


def test_the_longest_side_that_is_allowed_passes() -> None:
    host = replace(GOOD, images=torch.ones((4, 1, 65_535, 3), dtype=torch.uint8))
    stage = DeviceStage(Plan(device=(augment.Resize((1, 9)),)), device=torch.device("cpu"))
    assert torch.equal(stage(host).images, torch.ones((4, 3, 1, 9), dtype=torch.uint8))
