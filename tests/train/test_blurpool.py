"""BlurPool surgery on the models people use, and the filter against arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from fastpipe.errors import NoEffectWarning
from fastpipe.train.algorithms.blurpool import BlurConv2d, BlurMaxPool2d, apply_blurpool, blur, blur_filter

MODELS: dict[str, Callable[[], nn.Module]] = {
    "timm resnet50": lambda: timm.create_model("resnet50", num_classes=5),
    "timm resnet18": lambda: timm.create_model("resnet18", num_classes=5),
    "torchvision resnet50": lambda: torchvision.models.resnet50(num_classes=5),
    "torchvision resnet18": lambda: torchvision.models.resnet18(num_classes=5),
}


@pytest.mark.parametrize("name", MODELS)
def test_resnets_have_one_pooling_and_six_convolutions(name: str) -> None:
    model = MODELS[name]()
    keys = list(model.state_dict())
    assert apply_blurpool(model) == (1, 6)
    modules = dict(model.named_modules())
    assert type(modules["conv1"]) is nn.Conv2d  # the stem has 3 inputs
    assert isinstance(modules["maxpool"], BlurMaxPool2d)
    assert isinstance(modules["layer2.0.downsample.0"], BlurConv2d)
    assert not [
        m for m in model.modules() if type(m) is nn.Conv2d and max(m.stride) > 1 and m.in_channels >= 16
    ]
    assert list(model.state_dict()) == keys  # weights still fit the plain model
    assert model.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 1), (2, 5)])
def test_shapes_are_those_of_the_plain_layers(size: tuple[int, int]) -> None:
    images = torch.randn(2, 16, *size)
    conv = nn.Conv2d(16, 8, 3, stride=2, padding=1)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    model = nn.Sequential(conv)
    apply_blurpool(model)
    assert model(images).shape == conv(images).shape
    assert BlurMaxPool2d(pool)(images).shape == pool(images).shape


def test_the_filter_is_binomial_and_sums_to_one() -> None:
    expected = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    torch.testing.assert_close(blur_filter()[0, 0], expected)
    assert blur_filter().sum() == 1.0


def test_blur_by_hand_with_zero_padding() -> None:
    image = torch.zeros(1, 2, 3, 3)
    image[0, 0, 0, 0] = 16.0
    image[0, 1] = 1.0
    out = blur(image, blur_filter())
    assert out[0, 0].tolist() == [[4.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert out[0, 1].tolist() == [[0.5625, 0.75, 0.5625], [0.75, 1.0, 0.75], [0.5625, 0.75, 0.5625]]


def test_convolution_sees_the_blurred_input_first() -> None:
    conv = nn.Conv2d(16, 4, 1, stride=2)
    images = torch.randn(1, 16, 6, 6)
    expected = F.conv2d(blur(images, blur_filter()), conv.weight, conv.bias, stride=2)
    model = nn.Sequential(conv)
    apply_blurpool(model)
    torch.testing.assert_close(model(images), expected)
    assert model[0].weight is conv.weight  # the optimizer's parameters stay the model's


def test_maximum_is_taken_at_stride_one_then_blurred() -> None:
    images = torch.randn(1, 3, 8, 8)
    expected = blur(F.max_pool2d(images, 3, stride=1, padding=1), blur_filter(), 2)
    torch.testing.assert_close(BlurMaxPool2d(nn.MaxPool2d(3, 2, 1))(images), expected)


def test_nothing_to_replace_warns() -> None:
    with pytest.warns(NoEffectWarning, match="blurpool replaced nothing"):
        assert apply_blurpool(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2))) == (0, 0)


def test_a_second_application_finds_nothing_left() -> None:
    model = MODELS["timm resnet18"]()
    apply_blurpool(model)
    with pytest.warns(NoEffectWarning):
        apply_blurpool(model)
