"""Freezing: layers that keep their pretrained weights, for some epochs or to the end.

A frozen parameter gets no gradient, and nothing moves it: no decay, no momentum, no average. BatchNorm in a
frozen layer normalises by its stored statistics and leaves them alone, as in fastai's and torchvision's
fine-tuning; otherwise the new data would change the frozen layers after all.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from torch import nn

from fastpipe.errors import ArgumentError
from fastpipe.train.algorithms.layer_decay import layer_numbers

_NORMS = (nn.modules.batchnorm._NormBase,)  # those with running statistics


def frozen_names(
    model: nn.Module, freeze: int | float | Literal["backbone"], classifier: Collection[str]
) -> frozenset[str]:
    """The parameters and buffers that stay as they are; `classifier`: the names of its modules.

    backbone: all outside the classifier. N: those of the first N layers. A share in (0, 1): that part of the
    layers below the classifier, rounded. Raises ArgumentError if N leaves nothing to train.
    """
    own = tuple(f"{name}." for name in classifier)
    if freeze == "backbone":
        return frozenset(name for name in model.state_dict() if not name.startswith(own))
    if freeze == 0:
        return frozenset()
    numbers = layer_numbers(model)
    last = max(numbers.values())
    if isinstance(freeze, float):
        freeze = int(freeze * last + 0.5)
    if freeze > last:
        raise ArgumentError(
            f"freeze must be backbone, or at most {last} for {type(model).__name__}, whose layer {last + 1} "
            f"has the classifier. Found: {freeze}"
        )
    params = {name for name, layer in numbers.items() if layer < freeze and not name.startswith(own)}
    modules = {name.rpartition(".")[0] for name in params}
    buffers = {name for name, _ in model.named_buffers() if name.rpartition(".")[0] in modules}
    return frozenset(params | buffers)


def freeze_(model: nn.Module, names: Collection[str]) -> None:
    """No gradients for the parameters in `names`; gradients for all others."""
    for name, param in model.named_parameters():
        param.requires_grad_(name not in names)


def to_training(model: nn.Module, names: Collection[str]) -> None:
    """`model.train()`, but BatchNorm whose statistics are in `names` stays in evaluation."""
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, _NORMS) and f"{name}.running_mean" in names:
            module.eval()
