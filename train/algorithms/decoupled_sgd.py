"""SGD with momentum whose weight decay is not part of the gradient.

    buf = momentum * buf + g          (first step: buf = g)
    p  *= 1 - (lr / peak_lr) * weight_decay
    p  -= lr * buf

The decay follows the schedule's shape, not the learning rate's size: at the peak a step shrinks the weights
by `weight_decay` itself. With a loss scaler, a step whose gradients overflowed changes nothing. The device
decides this itself; torch's scaler would query it, and wait, at every step.
Source: DecoupledSGDW, composer/optim/decoupled_weight_decay.py of Composer 0.7.1 (Loshchilov & Hutter, arXiv
1711.05101).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from fastpipe.errors import ArgumentError


def decoupled_sgd_(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    *,
    lr: float,
    peak_lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """One step in place on `params` and their momentum `buffers`."""
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, grads)
    if weight_decay:
        torch._foreach_mul_(params, 1.0 - (lr / peak_lr) * weight_decay)
    torch._foreach_add_(params, buffers, alpha=-lr)


def scaled_decoupled_sgd_(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    *,
    lr: float,
    peak_lr: float,
    momentum: float,
    weight_decay: float,
    grad_scale: Tensor | None,
    found_inf: Tensor,
) -> None:
    """As `decoupled_sgd_` with grads / grad_scale, which it writes to `grads`; no change if found_inf is 1.

    grad_scale (None: 1), found_inf: float32 scalars on the device of the weights.
    """
    if weight_decay:
        kept = torch.where(found_inf > 0, 1.0, 1.0 - (lr / peak_lr) * weight_decay)
        torch._foreach_mul_(params, kept)
    torch._fused_sgd_(
        params,
        grads,
        buffers,
        weight_decay=0.0,
        momentum=momentum,
        lr=lr,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
        grad_scale=grad_scale,
        found_inf=found_inf,
    )


class DecoupledSGD(torch.optim.Optimizer):
    """`lr` at construction is the peak: it is kept as `initial_lr` before a warmup sets the first rate.

    A loaded state does not change it: the decay is scaled by this optimizer's own peak.
    """

    # torch.amp.GradScaler then sets the tensors grad_scale and found_inf instead of waiting for found_inf.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        if lr <= 0.0:
            raise ArgumentError(
                f"optimizer.lr must be above 0: the decay is scaled by lr / peak. Found: {lr!r}"
            )
        if not 0.0 <= momentum < 1.0:
            raise ArgumentError(f"optimizer.momentum must be in [0, 1). Found: {momentum!r}")
        if not 0.0 <= weight_decay < 1.0:
            raise ArgumentError(f"optimizer.weight_decay must be in [0, 1). Found: {weight_decay!r}")
        super().__init__(
            params, {"lr": lr, "initial_lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load momentum and settings, but not the peak."""
        peaks = [group["initial_lr"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, peak in zip(self.param_groups, peaks, strict=True):
            group["initial_lr"] = peak

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient. Returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            lists = (params, [p.grad for p in params], [self._buffer(p) for p in params])
            settings = {name: group[name] for name in ("lr", "momentum", "weight_decay")}
            settings["peak_lr"] = group["initial_lr"]
            found_inf: Tensor | None = getattr(self, "found_inf", None)
            if found_inf is None:
                decoupled_sgd_(*lists, **settings)
            else:
                scale: Tensor | None = getattr(self, "grad_scale", None)
                scaled_decoupled_sgd_(*lists, **settings, grad_scale=scale, found_inf=found_inf)
        return loss

    def _buffer(self, param: Tensor) -> Tensor:
        # A zero buffer gives buf = g on the first step, as the formula asks.
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param, memory_format=torch.preserve_format)
        buffer: Tensor = state["momentum_buffer"]
        return buffer
