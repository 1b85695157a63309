"""Stochastic depth: residual branches left out at random, deeper ones more often (arXiv 1603.09382).

Block l of L (from 0) is left out for one image with probability

    composer:  p_l = (l + 1) / L * drop_rate     kept branches unscaled; multiplied by 1 - p_l in evaluation
    timm:      p_l = l / (L - 1) * drop_rate     kept branches divided by 1 - p_l; nothing in evaluation

`timm` is timm's own drop_path_rate, given when the model is made: some families distribute the rates
otherwise (EfficientNet: l / L). `composer` is put into the model here: a block with two branches (attention
and MLP) has its rate in both, as timm's transformers have.

Sources: composer/algorithms/stochastic_depth of Composer 0.7.1 (drop_distribution linear, method sample),
which also drew new weights for the blocks (ours keeps them, as Composer since 0.9); timm.layers.DropPath.
Works on models whose blocks have timm's `drop_path`.
"""

from __future__ import annotations

import re
import warnings

import torch
from torch import Tensor, nn

from fastpipe.errors import NoEffectWarning

_BRANCH = re.compile(r"drop_path\d?")
"""timm's names for the end of a residual branch: drop_path, or drop_path1, drop_path2, ... with several."""


def linear_rates(blocks: int, drop_rate: float) -> list[float]:
    """The probability of leaving out the branches of each of `blocks` blocks."""
    return [drop_rate * (block + 1) / blocks for block in range(blocks)]


def drop_branch(branch: Tensor, rate: float) -> Tensor:
    """`branch` [B, ...] with whole images set to 0 with probability `rate`, by torch's generator."""
    shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
    keep = torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(1.0 - rate)
    return branch * keep


class DropBranch(nn.Module):
    """Stands at the end of a residual branch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """The branch, thinned in training and weighted in evaluation."""
        return drop_branch(branch, self.rate) if self.training else branch * (1.0 - self.rate)

    def extra_repr(self) -> str:
        """The text of `print(model)`."""
        return f"rate={self.rate:.4g}"


def apply_stochastic_depth(model: nn.Module, *, drop_rate: float) -> int:
    """Give every residual block of a timm model Composer's rate, in place. Returns the number of blocks.

    Warns NoEffectWarning when the model has no block with a `drop_path`, or the rate is 0.
    """
    blocks = [(module, names) for module in model.modules() if (names := _branches(module))]
    if not blocks or drop_rate == 0.0:
        found = "the rate is 0" if blocks else f"{type(model).__name__} has no block with a drop_path"
        warnings.warn(f"stochastic_depth changed nothing: {found}", NoEffectWarning, stacklevel=2)
        return 0
    for (block, names), rate in zip(blocks, linear_rates(len(blocks), drop_rate), strict=True):
        for name in names:
            setattr(block, name, DropBranch(rate))
    return len(blocks)


def _branches(module: nn.Module) -> list[str]:
    """The names of the ends of its branches; timm's ResNets have None where there is nothing to drop.

    None of a block of timm's EfficientNets without a shortcut, which never calls its `drop_path`.
    """
    if not getattr(module, "has_skip", True):
        return []
    return [
        name
        for name in (*vars(module), *module._modules)
        if _BRANCH.fullmatch(name) and isinstance(getattr(module, name), nn.Module | None)
    ]


def check_timms_depth(model: nn.Module) -> None:
    """Warn NoEffectWarning when a model that was made with timm's drop_path_rate drops no branch."""
    if not any(getattr(module, "drop_prob", 0.0) for module in _ends(model)):
        warnings.warn(
            f"stochastic_depth changed nothing: {type(model).__name__} passes over timm's drop_path_rate",
            NoEffectWarning,
            stacklevel=2,
        )


def _ends(model: nn.Module) -> list[nn.Module | None]:
    return [getattr(module, name) for module in model.modules() for name in _branches(module)]
