"""The table of the 256 levels has the bytes of torchvision's own conversion and normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image

from fastpipe.errors import ArgumentError
from fastpipe.transforms import HorizontalFlip, Normalize, ToFloat, lift, output_dtype, table
from fastpipe.types import Plan

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def every_level() -> Image.Image:
    """An image that holds every level in every channel."""
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2))


def bits(values: torch.Tensor) -> torch.Tensor:
    """The bytes, so that -0.0 and 0.0 differ."""
    return values.contiguous().view({2: torch.int16, 4: torch.int32}[values.element_size()])


PIPELINES: dict[str, list[Any]] = {
    "v1 ToTensor": [v1.ToTensor()],
    "v1 ToTensor Normalize": [v1.ToTensor(), v1.Normalize(MEAN, STD)],
    "v1 Normalize in place": [v1.ToTensor(), v1.Normalize(MEAN, STD, inplace=True)],
    "v1 one number for all channels": [v1.ToTensor(), v1.Normalize((0.5,), (0.5,))],
    "v1 mean as tensor (timm)": [v1.ToTensor(), v1.Normalize(torch.tensor(MEAN), torch.tensor(STD))],
    "v1 two Normalize": [v1.ToTensor(), v1.Normalize(MEAN, STD), v1.Normalize(STD, MEAN)],
    "v1 PILToTensor ConvertImageDtype": [
        v1.PILToTensor(),
        v1.ConvertImageDtype(torch.float),
        v1.Normalize(MEAN, STD),
    ],
    "v1 ConvertImageDtype half": [
        v1.PILToTensor(),
        v1.ConvertImageDtype(torch.half),
        v1.Normalize(MEAN, STD),
    ],
    "v2 ToDtype scaled": [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)],
    "v2 ToDtype unscaled": [
        v2.ToImage(),
        v2.ToDtype(torch.float32),
        v2.Normalize((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ],
    "v2 ConvertImageDtype": [v2.PILToTensor(), v2.ConvertImageDtype(torch.float32), v2.Normalize(MEAN, STD)],
    "v2 half": [v2.ToImage(), v2.ToDtype(torch.float16, scale=True), v2.Normalize(MEAN, STD)],
    "v2 bfloat16": [v2.ToImage(), v2.ToDtype(torch.bfloat16, scale=True), v2.Normalize(MEAN, STD)],
    "cast after Normalize": [v1.ToTensor(), v1.Normalize(MEAN, STD), v2.ToDtype(torch.bfloat16)],
    "two casts": [
        v2.ToImage(),
        v2.ToDtype(torch.float16),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ],
}


@pytest.mark.parametrize("name", PIPELINES)
def test_bytes_equal_torchvision(name: str) -> None:
    steps = PIPELINES[name]
    plan = lift(v1.Compose(steps)).plan
    assert plan is not None and plan.host == ()
    expected = v1.Compose(steps)(every_level())
    assert output_dtype(plan) == expected.dtype
    levels = table(plan)
    assert levels is not None
    assert levels.shape == (3, 256) and levels.dtype == torch.float32 and levels.is_contiguous()
    ours = levels.to(expected.dtype)
    assert torch.equal(ours.to(torch.float32), levels)  # nothing was lost by widening
    assert torch.equal(bits(ours), bits(torch.as_tensor(expected).reshape(3, 256)))


def test_dividing_and_multiplying_differ() -> None:
    """v2's ToDtype is not ToTensor: in float32, 126 levels differ in the last bit."""
    divided = table(Plan(device=(ToFloat(rule="divide"),)))
    multiplied = table(Plan(device=(ToFloat(rule="multiply"),)))
    assert divided is not None and multiplied is not None
    assert int((divided != multiplied)[0].sum()) == 126


def test_uint8_output_has_no_table() -> None:
    plan = Plan(device=(HorizontalFlip(),))
    assert output_dtype(plan) == torch.uint8
    assert table(plan) is None


def test_normalize_needs_float() -> None:
    plan = Plan(device=(Normalize(mean=MEAN, std=STD), ToFloat()))
    with pytest.raises(ArgumentError, match=r"Add ToFloat\(\) before it"):
        table(plan)


def test_std_that_vanishes_in_half_precision() -> None:
    plan = Plan(device=(ToFloat(dtype="float16"), Normalize(mean=MEAN, std=(1e-9, 1.0, 1.0))))
    with pytest.raises(ArgumentError, match="std must stay above 0 in"):
        table(plan)
