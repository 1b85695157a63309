"""Binary cross-entropy for classification: summed over the classes, averaged over the images.

A mean over the classes (timm's BinaryCrossEntropy) is `classes` times smaller. SGD is sensitive to that
factor, while LAMB's trust ratio hides it.
With the bias at -log(classes) every class starts at a probability of about 1 / classes, and the first
loss is N log(1 + 1/N) + log N instead of N log 2 (7.9 instead of 693 at 1000 classes).
Source: composer/loss/loss.py and composer/models/initializers.py of Composer 0.7.1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastpipe.errors import NoEffectWarning


def bce_loss(logits: Tensor, targets: Tensor, *, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    """A scalar, float32. `logits` and `targets` (0..1, dense) are [B, K]; `reduction` is over the classes."""
    summed = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="sum")
    return summed / (logits.shape[0] if reduction == "sum" else logits.numel())


def init_bias_minus_log_classes(model: nn.Module) -> int:
    """Set the bias of the classifier to -log(its outputs), in place. Returns how many were set.

    The classifier is what `get_classifier()` of a timm model returns, and without it every Linear.
    """
    changed = 0
    for module in _classifiers(model):
        if isinstance(module, nn.Linear) and module.bias is not None:
            with torch.no_grad():
                module.bias.fill_(-math.log(module.out_features))
            changed += 1
    if not changed:
        warnings.warn(
            "loss.bias_init set no bias: the model has no Linear with one", NoEffectWarning, stacklevel=2
        )
    return changed


def _classifiers(model: nn.Module) -> Iterator[nn.Module]:
    """The modules of the classifier; a distilled transformer has two of them."""
    find = getattr(model, "get_classifier", None)
    found = model if find is None else find()
    for part in found if isinstance(found, tuple) else (found,):
        yield from part.modules()
