"""Images to logits as validation computes them, and logits to probabilities.

Letters in shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastpipe.train.algorithms.channels_last import memory_format
from fastpipe.train.algorithms.test_time_flip import flipped_logits
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.step import autocast, resolved_precision

Forward = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] on the CPU or the device to logits [B, K] on the device."""


def forward_of(config: TrainConfig, model: nn.Module, device: torch.device) -> Forward:
    """The model in the run's precision and memory format, with its test-time flip."""
    precision, layout = resolved_precision(config.precision, device), memory_format(config.channels_last)

    def plain(images: Tensor) -> Tensor:
        with autocast(device, precision):
            logits: Tensor = model(images)
        return logits

    def forward(images: Tensor) -> Tensor:
        here = images.to(device, memory_format=layout, non_blocking=True)
        return flipped_logits(plain, here) if config.tta else plain(here)

    return forward


def class_probabilities(logits: Tensor) -> Tensor:
    """The softmax of logits [B, K], float32, also where the logits have fewer bits."""
    return logits.float().softmax(dim=1)
