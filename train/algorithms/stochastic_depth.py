"""Stochastic depth: residual branches left out at random, deeper ones more often (arXiv 1603.09382).

Block l of L (from 0) is left out for one image with probability

    composer:  p_l = (l + 1) / L * drop_rate     kept branches unscaled; multiplied by 1 - p_l in evaluation
    timm:      p_l = l / (L - 1) * drop_rate     kept branches divided by 1 - p_l; nothing in evaluation

Sources: composer/algorithms/stochastic_depth of Composer 0.7.1 (drop_distribution linear, method sample),
which also drew new weights for the blocks (ours keeps them, as Composer since 0.9); timm.layers.DropPath.
Works on models whose blocks have timm's `drop_path`.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor, nn

from fastpipe.errors import NoEffectWarning

Kind = Literal["composer", "timm"]


def linear_rates(blocks: int, drop_rate: float, kind: Kind) -> list[float]:
    """The probability of leaving out each of `blocks` residual branches."""
    if kind == "composer":
        return [drop_rate * (block + 1) / blocks for block in range(blocks)]
    return [drop_rate * block / max(1, blocks - 1) for block in range(blocks)]


def drop_branch(branch: Tensor, rate: float, kind: Kind) -> Tensor:
    """`branch` [B, ...] with whole images set to 0 with probability `rate`, by torch's generator."""
    shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
    keep = torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(1.0 - rate)
    if kind == "timm" and rate < 1.0:
        keep = keep / (1.0 - rate)
    return branch * keep


class DropBranch(nn.Module):
    """Stands at the end of a residual branch."""

    def __init__(self, rate: float, kind: Kind) -> None:
        super().__init__()
        self.rate, self.kind = rate, kind

    def forward(self, branch: Tensor) -> Tensor:
        """The branch, thinned in training, and weighted in evaluation if the kind requires it."""
        if self.training:
            return drop_branch(branch, self.rate, self.kind)
        return branch * (1.0 - self.rate) if self.kind == "composer" else branch

    def extra_repr(self) -> str:
        """The text of `print(model)`."""
        return f"rate={self.rate:.4g}, kind={self.kind}"


def apply_stochastic_depth(model: nn.Module, *, drop_rate: float, kind: Kind = "composer") -> int:
    """Give every residual block of a timm model its rate, in place. Returns the number of blocks.

    Warns NoEffectWarning when the model has no block with a `drop_path`, or the rate is 0.
    """
    blocks = [module for module in model.modules() if hasattr(module, "drop_path")]
    if not blocks or drop_rate == 0.0:
        found = "the rate is 0" if blocks else f"{type(model).__name__} has no block with a drop_path"
        warnings.warn(f"stochastic_depth changed nothing: {found}", NoEffectWarning, stacklevel=2)
        return 0
    for block, rate in zip(blocks, linear_rates(len(blocks), drop_rate, kind), strict=True):
        setattr(block, "drop_path", DropBranch(rate, kind) if rate > 0.0 else None)  # noqa: B010 - Module's own type
    return len(blocks)
