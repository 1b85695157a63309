"""The starting weights of the recipes: Kaiming normal (fan in) and a uniform BatchNorm weight.

Source: KAIMING_NORMAL and BN_UNIFORM in composer/models/initializers.py of Composer 0.7.1.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

from fastpipe.errors import NoEffectWarning

_WEIGHTED = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def initialize(model: nn.Module, *, generator: torch.Generator | None = None) -> int:
    """Draw new weights in place: Conv2d and Linear N(0, 2 / fan_in), BatchNorm weight U(0, 1), bias 0.

    Biases of Conv2d and Linear keep their values. Returns the number of modules drawn.
    """
    changed = 0
    for module in model.modules():
        if isinstance(module, _WEIGHTED):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, _NORMS) and module.affine:
            nn.init.uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
        else:
            continue
        changed += 1
    if not changed:
        warnings.warn(
            "init drew no weights: the model has no Conv2d, Linear or BatchNorm",
            NoEffectWarning,
            stacklevel=2,
        )
    return changed
