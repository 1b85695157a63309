"""From the values that a model gets back to levels that can be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastpipe.loader.preview.row import Levels

Channels = Sequence[float]
_MAX = 255.0


def levels_of(images: torch.Tensor, table: torch.Tensor | None) -> Levels:
    """uint8 [B,H,W,3] of [B,3,H,W]; table: float32 [3,256], the value of each level, or None for levels.

    Conversion and normalisation are straight lines, so the two ends of the table give each of them.
    """
    values = images.detach().cpu()
    if table is not None:
        ends = table.cpu().to(torch.float64)
        values = _between(values, ends[:, 0], ends[:, -1])
    return _channels_last(values)


def denormalised(images: torch.Tensor, mean: Channels, std: Channels) -> Levels:
    """uint8 [B,H,W,3] of values [B,3,H,W] that are (level / 255 - mean) / std."""
    low = [-centre / width for centre, width in zip(mean, std, strict=True)]
    high = [(1.0 - centre) / width for centre, width in zip(mean, std, strict=True)]
    ends = torch.tensor([low, high], dtype=torch.float64, device="cpu")
    return _channels_last(_between(images.detach().cpu(), ends[0], ends[1]))


def stretched(images: torch.Tensor) -> Levels:
    """uint8 [B,H,W,3] of values of unknown scale: from the least to the greatest of each image."""
    values = images.detach().cpu().to(torch.float64)
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    return _channels_last((values - low) / (high - low).clamp(min=1e-12) * _MAX)


def _between(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    low, high = low.view(1, -1, 1, 1), high.view(1, -1, 1, 1)
    return (values.to(torch.float64) - low) / (high - low) * _MAX


def _channels_last(values: torch.Tensor) -> Levels:
    if values.dtype != torch.uint8:
        values = values.to(torch.float64).round().clamp(0.0, _MAX).to(torch.uint8)
    array: Levels = np.ascontiguousarray(values.permute(0, 2, 3, 1).numpy())
    return array if array.shape[3] == 3 else np.repeat(array[..., :1], 3, axis=3)
