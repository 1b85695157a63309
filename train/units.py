"""Numbers as labels: the model learns them standardised, and its outputs are given in the labels' own units.

A recipe's learning rate is made for outputs about 1 apart. Ages or prices would make gradients some hundred
times as large, so each column is standardised by the mean and standard deviation of the training split. The
last layer is linear, so weights that leave the trainer have the units folded into it.

Letters in shapes: B batch, N images, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.classifier import classifier_names


@dataclass(frozen=True, kw_only=True)
class Units:
    """Mean and standard deviation of each column of labels, float32 [K]; layers: the model's last ones."""

    mean: Tensor
    std: Tensor
    layers: tuple[str, ...]

    def standard(self, labels: Tensor) -> Tensor:
        """Labels [B, K] in their units, as the model learns them."""
        return (labels - self.mean.to(labels.device)) / self.std.to(labels.device)

    def given(self, outputs: Tensor) -> Tensor:
        """Outputs [B, K] of the model, in the units of the labels."""
        return outputs.float() * self.std.to(outputs.device) + self.mean.to(outputs.device)

    def state_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {"mean": self.mean, "std": self.std, "layers": list(self.layers)}


def units_of(labels: npt.NDArray[Any], names: Sequence[str], model: nn.Module) -> Units:
    """The units of the training labels, float [N, K], with the names of their columns.

    Raises DataError for a column with one value, and ArgumentError for a model whose last layer has no bias.
    """
    values = labels.astype(np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    constant = [name for name, one in zip(names, std, strict=True) if not one > 0.0]
    if constant:
        raise DataError(
            f"the training labels of {', '.join(map(repr, constant))} all have one value: there is nothing "
            "to learn"
        )
    return Units(
        mean=torch.tensor(mean, dtype=torch.float32),
        std=torch.tensor(std, dtype=torch.float32),
        layers=_last_layers(model),
    )


def _last_layers(model: nn.Module) -> tuple[str, ...]:
    """The names of the layers that make the outputs, as timm knows them."""
    layers = classifier_names(model, "and numbers need one with a bias. Give another --model")
    if any(getattr(model.get_submodule(name), "bias", None) is None for name in layers):
        raise ArgumentError(
            f"model must have a last layer with a bias for labels that are numbers. Found: "
            f"{type(model).__name__} with {', '.join(layers)}"
        )
    return layers


def units_from(saved: Mapping[str, Any]) -> Units:
    """The units in a checkpoint."""
    return Units(mean=saved["mean"], std=saved["std"], layers=tuple(saved["layers"]))


def in_units(weights: Mapping[str, Tensor], saved: Mapping[str, Any]) -> dict[str, Tensor]:
    """`weights` of a model that gives outputs in the labels' units; `saved` is a `Units.state_dict()`."""
    found, std, mean = dict(weights), saved["std"], saved["mean"]
    for layer in saved["layers"] if weights else ():  # an average that has not begun has none
        weight, bias = found[f"{layer}.weight"], found[f"{layer}.bias"]
        found[f"{layer}.weight"] = weight * std.to(weight).reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{layer}.bias"] = bias * std.to(bias) + mean.to(bias)
    return found


def out_of_units(weights: Mapping[str, Tensor], units: Units) -> dict[str, Tensor]:
    """The inverse of `in_units`: weights of a model that gives standardised outputs, as it learns them."""
    found = dict(weights)
    for layer in units.layers:
        weight, bias = found[f"{layer}.weight"], found[f"{layer}.bias"]
        std, mean = units.std.to(weight), units.mean.to(bias)
        found[f"{layer}.weight"] = weight / std.reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{layer}.bias"] = (bias - mean) / std.to(bias)
    return found
