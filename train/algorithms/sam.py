"""Sharpness-aware minimisation every `interval` steps (Foret et al., arXiv 2010.01412).

    e = rho * g / (|g| + eps)         g the gradient at w, |g| its norm over all parameters
    the step uses the gradient at w + e, taken at w

Each of several processes perturbs by its own, unsynchronised gradient; only the second gradient is averaged.
Source: composer/algorithms/sam of Composer 0.7.1 (rho 0.5, eps 1e-12). Both passes see the same batch;
BatchNorm's running statistics move twice.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed
from torch import Tensor

from fastpipe.errors import ArgumentError


def perturbation(grads: list[Tensor], *, rho: float, eps: float = 1e-12) -> Tensor:
    """Turn the gradients into the step uphill, in place: a copy of the model's size would cost page faults.

    Returns the norm of all gradients (a scalar; inf or nan after overflow). A common factor in the
    gradients (a loss scale) cancels.
    """
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, rho / (norm + eps))
    return norm


class SAM:
    """Moves weights uphill after the first backward pass, and later restores them exactly.

    rho: length of the step uphill. interval: 1 perturbs every step, k every k-th.
    """

    def __init__(self, *, rho: float = 0.5, interval: int = 1, eps: float = 1e-12) -> None:
        if rho <= 0.0 or interval < 1:
            raise ArgumentError(
                f"sam.rho must be above 0 and sam.interval at least 1. Found: {rho!r} and {interval!r}"
            )
        self.rho, self.interval, self.eps = rho, interval, eps
        self._moved: list[Tensor] = []
        self._kept: list[Tensor] = []

    def due(self, step: int) -> bool:
        """Whether `step` (from 0) is one with two passes: the last of every `interval`."""
        return (step + 1) % self.interval == 0

    @torch.no_grad()
    def ascend(self, params: Iterable[Tensor]) -> bool:
        """Move to w + e and clear the gradients. False, without moving, if any process's overflowed.

        In that case every process's gradients hold inf, so that a loss scaler skips the update everywhere.
        """
        moved = [p for p in params if p.grad is not None]
        grads = [p.grad for p in moved if p.grad is not None]
        norm = perturbation(grads, rho=self.rho, eps=self.eps)
        if not _finite_everywhere(norm):
            for p in moved:
                p.grad = torch.full_like(p, torch.inf)
            return False
        # Copies, since w + e - e is not w in floating point.
        self._moved = moved
        self._kept = [p.clone(memory_format=torch.preserve_format) for p in moved]
        torch._foreach_add_(moved, grads)
        for p in moved:
            p.grad = None
        return True

    @torch.no_grad()
    def descend(self) -> None:
        """Restore the weights to w, bit for bit; the gradients at w + e stay."""
        if self._moved:
            torch._foreach_copy_(self._moved, self._kept)
        self._moved, self._kept = [], []


def _finite_everywhere(norm: Tensor) -> bool:
    finite = torch.isfinite(norm)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        flag = finite.to(torch.int32)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
        finite = flag
    return bool(finite)
