"""A model by name, prepared according to the recipe; what the model cannot have is refused."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.train.algorithms.bce import init_bias_minus_log_classes
from fastpipe.train.algorithms.blurpool import apply_blurpool
from fastpipe.train.algorithms.channels_last import to_memory_format
from fastpipe.train.algorithms.initializers import initialize
from fastpipe.train.algorithms.stochastic_depth import apply_stochastic_depth, check_timms_depth
from fastpipe.train.classifier import classifier_names
from fastpipe.train.config.keys import suggest
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.input_size import check_sides, size_arguments, timm_with


def create_model(name: str, num_classes: int, **arguments: Any) -> nn.Module:
    """The timm model `name` with `num_classes` outputs, untrained; `arguments` are timm's.

    Raises ArgumentError for another name, and for an argument that this model does not have.
    """
    timm = timm_with(name)
    if not timm.is_model(name):
        known = timm.list_models(f"{name[:3]}*") or timm.list_models()
        raise ArgumentError(f"unknown model {name!r}. {_nearest_model(name, known)}")
    check_tag(name)
    try:
        model: nn.Module = timm.create_model(name, num_classes=num_classes, pretrained=False, **arguments)
    except TypeError as error:
        wanted = next((key for key in _OF_KEYS if key in arguments and key in str(error)), None)
        if wanted is None:
            raise
        raise ArgumentError(f"{name} {_OF_KEYS[wanted]}") from error
    return model


def check_tag(name: str) -> None:
    """Raise ArgumentError, with the nearest, for a tag of weights that timm does not know."""
    timm = timm_with(name)
    architecture, tagged, _ = name.partition(".")
    if not tagged or not timm.is_model(architecture):
        return  # the model itself is refused, with the nearest names
    known = timm.list_pretrained(f"{architecture}.*")
    if name not in known:
        raise ArgumentError(
            f"the model {architecture!r} has no pretrained weights {name!r}. {suggest(name, known)} timm "
            f"knows: {', '.join(known) or 'none'}. Without a tag, --model {architecture} starts at random"
        )


def last_layer(name: str) -> str:
    """The name of the layer that the classes come from, such as `fc`.

    Raises ArgumentError for no model, or one without such a layer.
    """
    return classifier_names(create_model(name, 1), "so its classes cannot be counted. Keep the card")[0]


# timm's arguments that not every model has: what a model without them cannot do, and the remedy.
_OF_KEYS = {
    "drop_path_rate": "has no stochastic depth. Give --stochastic-depth null, or another --model",
    "dynamic_img_size": "takes images of one size, and this run has several: train_resolution, "
    "val_resolution, progressive_resizing and colout must lead to the same size",
    "img_size": "takes images of the size that it was made for alone, and timm cannot build it for another",
}


def _nearest_model(name: str, known: list[str]) -> str:
    advice = suggest(name, known)
    return advice if advice.startswith("Did") else "timm.list_models() prints the known models"


def build_model(config: TrainConfig, num_classes: int, device: torch.device) -> nn.Module:
    """The recipe's model on `device`: weights drawn, bias set, blurred and laid out as the recipe says.

    Raises ArgumentError for a method or an image size that this model cannot have, and names the key.
    """
    check_tag(config.model)  # timm's own error is none of a wrong argument
    model = create_model(config.model, num_classes, **model_arguments(config))
    check_sides(model, config)
    if config.init == "composer":
        initialize(model)
    if config.loss.bias_init:
        _init_bias(config, model)
    _apply_depth(config, model)
    if config.blurpool:
        with _refused(config.model, "--blurpool false"):
            apply_blurpool(model, poolings=config.blurpool != "ffcv")
    return to_memory_format(model.to(device), config.channels_last)


def model_arguments(config: TrainConfig) -> dict[str, Any]:
    """What timm.create_model is told besides name and classes: image sizes, and its own stochastic depth."""
    depth = config.stochastic_depth
    own = depth is not None and depth.kind == "timm" and depth.drop_rate > 0.0
    return {**size_arguments(config), **({"drop_path_rate": depth.drop_rate} if depth and own else {})}


def _apply_depth(config: TrainConfig, model: nn.Module) -> None:
    depth = config.stochastic_depth
    if depth is None or depth.drop_rate == 0.0:
        if depth is not None:
            warnings.warn(
                "stochastic_depth.drop_rate is 0: no branch is left out", NoEffectWarning, stacklevel=3
            )
        return
    with _refused(config.model, "--stochastic-depth null"):
        if depth.kind == "composer":
            apply_stochastic_depth(model, drop_rate=depth.drop_rate)
        else:
            check_timms_depth(model)


@contextlib.contextmanager
def _refused(model: str, remedy: str) -> Iterator[None]:
    """A method in the block that changes nothing is an error, since the recipe would be another one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoEffectWarning)
        try:
            yield
        except NoEffectWarning as warning:
            raise ArgumentError(
                f"{warning}. The model is {model}. Give {remedy}, or another --model"
            ) from None


def _init_bias(config: TrainConfig, model: nn.Module) -> None:
    if config.loss.name == "bce":
        init_bias_minus_log_classes(model)
    else:
        # Softmax ignores a constant that is added to all logits.
        warnings.warn(f"loss.bias_init has no effect on {config.loss.name}", NoEffectWarning, stacklevel=3)
