"""Numbers as labels: the model learns them standardised, and its outputs are given in the labels' own units.

A recipe's learning rate is made for outputs about 1 apart. Ages or prices would make gradients some hundred
times as large, so each column is standardised by the mean and standard deviation of the training split. The
last layer is linear, so weights that leave the trainer for other programs have the units folded into it.
Here the units stay apart and are applied in float64: of times, float32 would keep steps of 128 seconds, and
a last layer in half precision overflows at 65504.

Letters in shapes: B batch, N images, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.classifier import classifier_names

# float32 has about seven digits.
_DIGITS = 7
# From this share of the standard deviation on, the steps of float32 are worth a word.
_LOST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Units:
    """Mean and standard deviation of each column of labels, float64 [K]; layers: the model's last ones."""

    mean: Tensor
    std: Tensor
    layers: tuple[str, ...]

    def standard(self, labels: Tensor) -> Tensor:
        """Labels [B, K] in their units, on the device of these, as the model learns them: float32."""
        return ((labels.double() - self.mean) / self.std).float()

    def given(self, outputs: Tensor) -> Tensor:
        """Outputs [B, K] of the model, on the device of these, in the units of the labels: float64."""
        return outputs.double() * self.std + self.mean

    def rounded(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values [B, K] in the labels' units without the digits that float32 outputs do not have."""
        places = [_DIGITS - math.floor(math.log10(one)) for one in self.std.tolist()]
        columns = [values[:, k].round(places[k]) for k in range(len(places))]
        return np.stack(columns, axis=1) if columns else values

    def to(self, device: torch.device) -> Units:
        """These units on a device: moved once, not with each batch."""
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))

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
        mean=torch.from_numpy(mean),
        std=torch.from_numpy(std),
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
    mean, std = saved["mean"].double(), saved["std"].double()  # float32 in an earlier version
    return Units(mean=mean, std=std, layers=tuple(saved["layers"]))


def in_units(weights: Mapping[str, Tensor], units: Units) -> dict[str, Tensor]:
    """`weights` of a model that gives outputs in the labels' units, from those of one that learnt in them."""
    return _scaled(weights, units.layers, units.std, units.mean)


def restandardised(weights: Mapping[str, Tensor], earlier: Units | None, now: Units) -> dict[str, Tensor]:
    """`weights` of a model that gives outputs by `now`, from those of an earlier run.

    earlier: its units; None: its outputs are in those of the labels.
    """
    std, mean = (torch.ones(()), torch.zeros(())) if earlier is None else (earlier.std, earlier.mean)
    return _scaled(weights, now.layers, std / now.std, (mean - now.mean) / now.std)


def _scaled(
    weights: Mapping[str, Tensor], layers: Sequence[str], factor: Tensor, shift: Tensor
) -> dict[str, Tensor]:
    """The weights with outputs times `factor` plus `shift`, both [K]; computed in float64."""
    found = dict(weights)
    for layer in layers if weights else ():  # an average that has not begun has none
        weight, bias = found[f"{layer}.weight"], found[f"{layer}.bias"]
        by_row = factor.reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{layer}.weight"] = (weight.double() * by_row).to(weight.dtype)
        found[f"{layer}.bias"] = (bias.double() * factor + shift).to(bias.dtype)
    return found


def rounding_words(units: Units, names: Sequence[str]) -> str:
    """A sentence about the columns of which a float32 output in their own units loses much, or ""."""
    steps = np.spacing(units.mean.abs().numpy().astype(np.float32))
    pairs = zip(names, steps.tolist(), units.std.tolist(), strict=True)
    lost = [
        f"{name!r} in steps of {step:g} (standard deviation {std:g})"
        for name, step, std in pairs
        if step > _LOST * std
    ]
    if not lost:
        return ""
    return (
        f"float32 outputs in the labels' own units give {', '.join(lost)}. --predict with the checkpoint "
        "gives them in full; or train on labels less their mean"
    )
