"""A model by name, prepared according to the recipe."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from fastpipe.errors import ArgumentError, MissingExtraError, NoEffectWarning
from fastpipe.train.algorithms.bce import init_bias_minus_log_classes
from fastpipe.train.algorithms.blurpool import apply_blurpool
from fastpipe.train.algorithms.channels_last import to_memory_format
from fastpipe.train.algorithms.initializers import initialize
from fastpipe.train.algorithms.stochastic_depth import apply_stochastic_depth
from fastpipe.train.config.keys import suggest
from fastpipe.train.config.schema import TrainConfig


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


def last_layer(name: str) -> str:
    """The name of the layer that the classes come from, such as `fc`. Raises ArgumentError for no model."""
    cfg: Any = create_model(name, 1).pretrained_cfg  # timm's; models with two heads name both
    layers = cfg["classifier"]
    return str(layers if isinstance(layers, str) else layers[0])


def _nearest_model(name: str, known: list[str]) -> str:
    advice = suggest(name, known)
    return advice if advice.startswith("Did") else "timm.list_models() prints the known models"


def build_model(config: TrainConfig, num_classes: int, device: torch.device) -> nn.Module:
    """The recipe's model on `device`: weights drawn, bias set, blurred and laid out as the recipe says."""
    model = create_model(config.model, num_classes)
    if config.init == "composer":
        initialize(model)
    if config.loss.bias_init:
        _init_bias(config, model)
    if config.stochastic_depth is not None:
        depth = config.stochastic_depth
        apply_stochastic_depth(model, drop_rate=depth.drop_rate, kind=depth.kind)
    if config.blurpool:
        apply_blurpool(model, poolings=config.blurpool != "ffcv")
    return to_memory_format(model.to(device), config.channels_last)


def _init_bias(config: TrainConfig, model: nn.Module) -> None:
    if config.loss.name == "bce":
        init_bias_minus_log_classes(model)
    else:
        # Softmax ignores a constant that is added to all logits.
        warnings.warn(f"loss.bias_init has no effect on {config.loss.name}", NoEffectWarning, stacklevel=3)
