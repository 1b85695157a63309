"""The optimizer of a recipe: SGD (decay decoupled or coupled), LAMB or LARS, and which weights decay.

LAMB and LARS are timm's: LAMB clips the global gradient norm to 1 and adds the decay to the Adam update
before the trust ratio; LARS's trust coefficient is 0.001.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from fastpipe.errors import ArgumentError, MissingExtraError, NoEffectWarning
from fastpipe.train.algorithms.decoupled_sgd import DecoupledSGD
from fastpipe.train.algorithms.layer_decay import by_layer
from fastpipe.train.config.groups import OptimizerConfig

WAITING = ("lamb", "lars")
"""Optimizers of timm that do not support a loss scaler: it waits for the device at every step."""

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class ScaledSGD(torch.optim.SGD):
    """torch's fused SGD, with which the device itself skips a step whose gradients overflowed.

    With the unfused SGD, the loss scaler waits for the device at every step.
    """

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, fused=True, **settings)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, even one of an optimizer that was not fused."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.update(fused=True, foreach=None)


def build_optimizer(
    config: OptimizerConfig, model: nn.Module, *, scaled: bool = False
) -> torch.optim.Optimizer:
    """The optimizer over the model's trainable parameters, at its peak learning rate.

    scaled: a loss scaler will call it.
    """
    groups = parameter_groups(model, on_norm=config.weight_decay_on_norm, on_bias=config.weight_decay_on_bias)
    groups = by_layer(groups, model, lr=config.lr, decay=config.layer_decay)
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.name == "sgd":
        coupled = ScaledSGD if scaled else torch.optim.SGD
        kind = DecoupledSGD if config.decoupled_weight_decay else coupled
        return kind(groups, momentum=config.momentum, **settings)
    if config.decoupled_weight_decay:
        raise ArgumentError(
            f"optimizer.decoupled_weight_decay must be false for {config.name}, which has its own decay"
        )
    lamb, lars = _timm_optimizers()
    if config.name == "lamb":
        made: torch.optim.Optimizer = lamb(groups, betas=(config.momentum, 0.999), **settings)
    else:
        made = lars(groups, momentum=config.momentum, **settings)
    return made


def parameter_groups(model: nn.Module, *, on_norm: bool, on_bias: bool) -> list[dict[str, Any]]:
    """Decayed parameters first, then those without decay: weights and biases of norms, biases of the rest."""
    norms = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        if id(param) in norms:
            (decayed if on_norm else free).append(param)
        else:
            (decayed if on_bias or not name.endswith("bias") else free).append(param)
    if not (on_norm and on_bias) and not free:
        warnings.warn(
            "weight_decay_on_norm or weight_decay_on_bias is false but has no effect: "
            f"{type(model).__name__} has no such parameter",
            NoEffectWarning,
            stacklevel=3,
        )
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def continue_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what a run has gathered (momentum, moments, counts) from a state of the same optimizer.

    `optimizer` keeps its own settings, while torch would load those of the state: a changed decay or momentum
    takes effect. The rate is set at every step anyway.
    """
    own = [
        {key: group[key] for key in group if key not in ("params", "lr")} for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def _timm_optimizers() -> tuple[Any, Any]:
    try:
        from timm.optim import Lamb, Lars
    except ImportError as error:
        raise MissingExtraError("timm", "train", "optimizer.name lamb or lars") from error
    return Lamb, Lars
