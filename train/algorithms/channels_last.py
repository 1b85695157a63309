"""Weights in NHWC memory order, which the fp16 and CPU convolution kernels prefer. Shapes do not change."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from fastpipe.errors import NoEffectWarning


def memory_format(channels_last: bool) -> torch.memory_format:
    """The memory format of model and batches. The numbers are the same in both, up to summation order."""
    return torch.channels_last if channels_last else torch.contiguous_format


def to_memory_format(model: nn.Module, channels_last: bool) -> nn.Module:
    """The model itself, with its 4-dimensional weights in the requested order; warns if it has none."""
    if channels_last and not any(value.ndim == 4 for value in model.parameters()):
        warnings.warn(
            f"channels_last moved no weight: {type(model).__name__} has none of 4 dimensions",
            NoEffectWarning,
            stacklevel=2,
        )
    converted: nn.Module = model.to(memory_format=memory_format(channels_last))
    return converted
