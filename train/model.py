"""A model by name, prepared as the recipe asks, and the optimizer for its parameters."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.train.algorithms.bce import init_bias_minus_log_classes
from fastpipe.train.algorithms.blurpool import apply_blurpool
from fastpipe.train.algorithms.channels_last import to_memory_format
from fastpipe.train.algorithms.decoupled_sgd import DecoupledSGD
from fastpipe.train.algorithms.initializers import initialize
from fastpipe.train.config import OptimizerConfig, TrainConfig, suggest
from fastpipe.train.errors import NoEffectWarning

__all__ = ["build_model", "build_optimizer", "create_model"]


def create_model(name: str, num_classes: int) -> nn.Module:
    """The timm model `name` with `num_classes` outputs, untrained. Raises ArgumentError for another name."""
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", "train", f"The model {name!r}") from error
    if not timm.is_model(name):
        known = timm.list_models(f"{name[:3]}*") or timm.list_models()
        raise ArgumentError(f"unknown model {name!r}. {_nearest_model(name, known)}")
    model: nn.Module = timm.create_model(name, num_classes=num_classes, pretrained=False)
    return model


def _nearest_model(name: str, known: list[str]) -> str:
    advice = suggest(name, known)
    return advice if advice.startswith("Did") else "timm.list_models() prints the known ones"


def build_model(config: TrainConfig, num_classes: int, device: torch.device) -> nn.Module:
    """The recipe's model on `device`: weights drawn, bias set, blurred and laid out as the recipe says."""
    model = create_model(config.model, num_classes)
    if config.init == "composer":
        initialize(model)
    if config.loss.bias_init:
        _init_bias(config, model)
    if config.blurpool:
        apply_blurpool(model)
    return to_memory_format(model.to(device), config.channels_last)


def _init_bias(config: TrainConfig, model: nn.Module) -> None:
    if config.loss.name == "bce":
        init_bias_minus_log_classes(model)
    else:
        # Softmax does not see a constant that is added to all logits.
        warnings.warn(f"loss.bias_init has no effect on {config.loss.name}", NoEffectWarning, stacklevel=3)


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum over all parameters, decay decoupled or coupled, norms and biases decayed or not."""
    groups = _groups(model, config)
    if config.decoupled_weight_decay:
        return DecoupledSGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def _groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    params = [p for p in model.parameters() if p.requires_grad]
    if config.weight_decay_on_norm:
        return [{"params": params}]
    # One-dimensional parameters are the norms' weights and all biases.
    decayed = [p for p in params if p.ndim > 1]
    free = [p for p in params if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
