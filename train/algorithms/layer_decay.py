"""Layer-wise rate decay: the layers nearest to the image, which are the most general, move least.

    rate of layer l of L (from 0; the classifier is the last) = rate * decay ** (L - 1 - l)

Layers are timm's own groups (`group_matcher`): the stem, each block, then the classifier. Sources: ULMFiT's
discriminative fine-tuning (arXiv 1801.06146), BEiT (arXiv 2106.08254), `param_groups_layer_decay` of timm.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fastpipe.errors import ArgumentError, MissingExtraError


def layer_numbers(model: nn.Module) -> dict[str, int]:
    """The number of each parameter's layer, from 0. Raises ArgumentError if timm does not number them."""
    try:
        from timm.models import group_parameters
    except ImportError as error:
        raise MissingExtraError("timm", "train", "Numbering a model's layers") from error
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise ArgumentError(
            f"timm does not number the layers of {type(model).__name__} (it has no group_matcher): "
            "optimizer.layer_decay must be 1, and freeze 0 or backbone"
        )
    numbers: dict[str, int] = group_parameters(model, matcher(coarse=False), reverse=True)
    return numbers


def by_layer(
    groups: list[dict[str, Any]], model: nn.Module, *, lr: float, decay: float
) -> list[dict[str, Any]]:
    """The parameter groups, each split by layer and with its own peak rate.

    `lr_scale` is the layer's share of the rate; `set_lr` multiplies it in.
    """
    if decay == 1.0:
        return groups
    numbers, names = layer_numbers(model), {id(param): name for name, param in model.named_parameters()}
    last = max(numbers.values())
    split: list[dict[str, Any]] = []
    for group in groups:
        layers: dict[int, list[nn.Parameter]] = {}
        for param in group["params"]:
            layers.setdefault(numbers[names[id(param)]], []).append(param)
        for layer, params in sorted(layers.items()):
            scale = decay ** (last - layer)
            # SGD's decoupled decay is measured by initial_lr, the group's own peak.
            rates = {"lr": lr * scale, "initial_lr": lr * scale, "lr_scale": scale}
            split.append({**group, "params": params, **rates})
    return split
