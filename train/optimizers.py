"""The optimizer of a recipe: SGD (decay decoupled or coupled), AdamW, LAMB or LARS, and which weights decay.

AdamW is torch's: a step first multiplies the weights by 1 - lr * weight_decay (arXiv 1711.05101). LAMB and
LARS are timm's: LAMB clips the global gradient norm to 1 and adds the decay to the Adam update before the
trust ratio; LARS's trust coefficient is 0.001.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from fnmatch import fnmatch
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


class ScaledAdamW(torch.optim.AdamW):
    """torch's fused AdamW, for the same reason as `ScaledSGD`."""

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, fused=True, **settings)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, even one of an optimizer that was not fused."""
        # Before torch loads it: only for a fused group does it move the counts of steps to the device.
        fused = [{**group, "fused": True, "foreach": None} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": fused})


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
    betas = (config.momentum, config.beta2)
    if config.name == "adamw":
        return (ScaledAdamW if scaled else torch.optim.AdamW)(groups, betas=betas, **settings)
    lamb, lars = _timm_optimizers()
    if config.name == "lamb":
        made: torch.optim.Optimizer = lamb(groups, betas=betas, **settings)
    else:
        made = lars(groups, momentum=config.momentum, **settings)
    return made


def parameter_groups(model: nn.Module, *, on_norm: bool, on_bias: bool) -> list[dict[str, Any]]:
    """Decayed parameters first, then those without decay.

    on_norm: whether normalisation layers decay, and other weights of one dimension that are no bias (such as
    LayerScale's), and what the model's own `no_weight_decay()` names (position embeddings, class tokens).
    on_bias: whether the biases of other layers decay. With both False, the groups are those of timm.
    """
    spared = _spared_with_norms(model)
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, param in model.named_parameters():
        if param.requires_grad:
            is_bias = name.endswith("bias") and name not in spared
            on = on_norm if name in spared else on_bias if is_bias else param.ndim > 1 or on_norm
            (decayed if on else free).append(param)
    if not (on_norm and on_bias) and not free:
        warnings.warn(
            "weight_decay_on_norm or weight_decay_on_bias is false but has no effect: "
            f"{type(model).__name__} has no such parameter",
            NoEffectWarning,
            stacklevel=3,
        )
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _spared_with_norms(model: nn.Module) -> set[str]:
    """Names of the parameters of normalisation layers, and of those that the model itself wants spared."""
    norms = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    own: Iterable[str] = getattr(model, "no_weight_decay", set)()
    return {
        name
        for name, param in model.named_parameters()
        if id(param) in norms or any(fnmatch(name, pattern) for pattern in own)
    }


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
