"""Test-time flip: the logits of an image and of its mirror image, averaged.

Source: lr_tta in ffcv-imagenet's train_imagenet.py, which adds the two. The mean gives the same ranking and
keeps probabilities meaningful. Doubles the cost of validation.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def flipped_logits(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean logits [B, K] over `images` [B, C, H, W] and their left-right mirror."""
    return (forward(images) + forward(images.flip(-1))) / 2
