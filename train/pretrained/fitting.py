"""Weights into a model whose classifier is another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fastpipe.errors import DataError
from fastpipe.train.classifier import classifier_names

_SHOWN = 3
_NEED = "so no pretrained weights can be put below a new one. Train it from scratch, or choose another model"
# Only BatchNorm's own momentum=None reads it, and files of torch before 0.4.1 lack it.
_COUNTER = "num_batches_tracked"


def is_of_classifier(model: nn.Module, name: str) -> bool:
    """Whether the parameter or buffer `name` belongs to the classifier."""
    return name.startswith(tuple(f"{module}." for module in classifier_names(model, _NEED)))


@torch.no_grad()
def load_below_classifier(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> int | None:
    """Copy all `weights` into `model` but the classifier's, which stays as it is.

    Returns the classes of the classifier in `weights`, None without one. Raises DataError, with the first
    layers that do not fit, unless every other tensor has its place; then nothing was copied.
    """
    own = model.state_dict()
    below = {name: tensor for name, tensor in own.items() if not is_of_classifier(model, name)}
    given = {name: tensor for name, tensor in weights.items() if not is_of_classifier(model, name)}
    _check_fit(below, given, where)
    for name, tensor in given.items():
        below[name].copy_(tensor)
    biases = [w for name, w in weights.items() if is_of_classifier(model, name) and w.ndim == 1]
    return len(biases[0]) if biases else None


def _check_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    missing = [name for name in own if name not in given and not name.endswith(_COUNTER)]
    unexpected = [name for name in given if name not in own]
    shapes = [
        f"{name} {_size(given[name])} instead of {_size(own[name])}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        listed = "; ".join(f"{kind}: {_first(names)}" for kind, names in parts if names)
        raise DataError(
            f"the weights of {where} do not fit the model: {listed}. Give the --model that they are of"
        )


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
