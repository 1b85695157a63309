"""BlurPool: low-pass filtering before every subsampling (Zhang, arXiv 1904.11486).

Every MaxPool2d with a stride becomes: maximum at stride 1, then blur at the stride. Every Conv2d with a
stride and at least `min_channels` inputs becomes: blur at stride 1, then the convolution itself ("blur
first"). The filter is [1 2 1] x [1 2 1] / 16 with zero padding that keeps the size. ResNet-50: 1 pooling
and 6 convolutions; the stem (3 inputs) is skipped. Source: composer/algorithms/blurpool of Composer 0.7.1.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastpipe.errors import NoEffectWarning

_TAPS = (1.0, 2.0, 1.0)


def blur_filter() -> Tensor:
    """The 3x3 binomial filter, float32 [1, 1, 3, 3], sum 1."""
    taps = torch.tensor(_TAPS)
    return (torch.outer(taps, taps) / taps.sum() ** 2)[None, None]


def blur(images: Tensor, kernel: Tensor, stride: int | tuple[int, int] = 1) -> Tensor:
    """`images` [B, C, H, W], each channel filtered by `kernel` [1, 1, 3, 3] at every `stride`."""
    channels = images.shape[1]
    weight = kernel.to(images.dtype).expand(channels, 1, 3, 3)
    return F.conv2d(images, weight, stride=stride, padding=1, groups=channels)


class BlurConv2d(nn.Conv2d):
    """A strided convolution of a blurred input. Parameter names are those of the Conv2d it replaces."""

    blur_kernel: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        # The filter is a constant: not in the state_dict, so that weights fit the plain model too.
        self.register_buffer("blur_kernel", blur_filter().to(conv.weight.device), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Blur, then convolve at the stride: same output shape as the plain convolution."""
        return super().forward(blur(input, self.blur_kernel))


class BlurMaxPool2d(nn.Module):
    """The maximum at stride 1, then a blur at the pooling's stride: same output shape for a 3x3/2 pooling."""

    blur_kernel: Tensor

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.dilation = pool.kernel_size, pool.padding, pool.dilation
        self.stride = pool.stride
        self.ceil_mode = pool.ceil_mode
        self.register_buffer("blur_kernel", blur_filter(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Pooled and blurred [B, C, H', W']."""
        pooled = F.max_pool2d(
            input,
            self.kernel_size,
            stride=1,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )
        stride = self.stride if isinstance(self.stride, int) else (self.stride[0], self.stride[1])
        return blur(pooled, self.blur_kernel, stride)


def _replacement(module: nn.Module, min_channels: int, poolings: bool) -> nn.Module | None:
    if poolings and type(module) is nn.MaxPool2d:
        return BlurMaxPool2d(module)
    if type(module) is nn.Conv2d and max(module.stride) > 1 and module.in_channels >= min_channels:
        return BlurConv2d(module)
    return None


def apply_blurpool(model: nn.Module, *, min_channels: int = 16, poolings: bool = True) -> tuple[int, int]:
    """Replace poolings and strided convolutions in place. Returns (poolings, convolutions) replaced.

    poolings: False leaves the poolings as they are, as ffcv-imagenet's apply_blurpool does.

    Warns NoEffectWarning when there was nothing to replace.
    """
    pools = convs = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            new = _replacement(child, min_channels, poolings)
            if new is None:
                continue
            setattr(parent, name, new)
            pools += isinstance(new, BlurMaxPool2d)
            convs += isinstance(new, BlurConv2d)
    if not pools + convs:
        warnings.warn(
            f"blurpool replaced nothing: {type(model).__name__} has no MaxPool2d and no strided Conv2d with "
            f">= {min_channels} inputs",
            NoEffectWarning,
            stacklevel=2,
        )
    return pools, convs
