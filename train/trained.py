"""A checkpoint as a trained model: its configuration, its classes and its two sets of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastpipe.errors import DataError
from fastpipe.train.checkpoint import load_checkpoint
from fastpipe.train.config import TrainConfig
from fastpipe.train.keys import check_keys, config_from_dict
from fastpipe.train.model import build_model

__all__ = ["Trained", "read_trained", "trained_of"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a checkpoint says of its model. `averaged` are the EMA weights, empty without an average.

    `step` is None where nobody knows it; `name` is what `raw` is called.
    """

    path: Path
    config: TrainConfig
    classes: tuple[str, ...]
    step: int | None
    raw: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    name: str = "raw"

    def weights(self) -> dict[str, Mapping[str, Tensor]]:
        """The sets of weights by name, the one that a run reports as its top-1 first."""
        return {**({"ema": self.averaged} if self.averaged else {}), self.name: self.raw}

    def model(self, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
        """The recipe's model with `weights`, ready to predict. Raises DataError when they do not fit it."""
        model = build_model(self.config, len(self.classes), device)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(
                f"the weights in {str(self.path)!r} do not fit {self.config.model!r} as it is built here: "
                f"{error}"
            ) from error
        return model.eval()


def read_trained(path: Path) -> Trained:
    """The trained model in a checkpoint. Raises DataError for a file that holds none."""
    return trained_of(load_checkpoint(path), path)


def trained_of(state: Mapping[str, Any], path: Path) -> Trained:
    """The trained model in a checkpoint's state, which was read from `path`."""
    check_keys(state["config"], where=f"checkpoint {str(path)!r}")
    return Trained(
        path=path,
        config=config_from_dict(state["config"]),
        classes=tuple(state["classes"]),
        step=state["step"],
        raw=state["model"],
        averaged=state["ema"],
    )
