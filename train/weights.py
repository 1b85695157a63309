"""Trained models: in a checkpoint, or the weights alone that `--export` writes, with their card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.checkpoint import FORMAT, is_checkpoint, load_checkpoint
from fastpipe.train.config.groups import Task
from fastpipe.train.config.keys import check_keys, config_from_dict, config_to_dict
from fastpipe.train.config.recipe import config_from_values, load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.model import build_model, last_layer
from fastpipe.train.safetensors_file import SUFFIX, card_in_header
from fastpipe.train.units import Units, in_units, units_from


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The model of a checkpoint. `averaged` are the EMA weights, empty without an average.

    `step` is None if it is unknown; `name` is the name of `raw`. `classes` are the names of the outputs: of
    classes, of labels, or of columns of numbers. units: those that the outputs are standardised
    by; None: outputs are as they are meant, as exported ones are.
    """

    path: Path
    config: TrainConfig
    classes: tuple[str, ...]
    step: int | None
    raw: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    name: str = "raw"
    task: Task = "classes"
    units: Units | None = None

    def weights(self) -> dict[str, Mapping[str, Tensor]]:
        """The sets of weights by name; the first is the one whose top-1 a run reports."""
        return {**({"ema": self.averaged} if self.averaged else {}), self.name: self.raw}

    def for_others(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """One of these sets for a model alone, whose outputs are in the units of the labels."""
        return weights if self.units is None else in_units(weights, self.units)

    def model(self, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
        """The recipe's model with `weights`, ready to predict. Raises DataError if they do not fit."""
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
    units = state.get("units")
    return Trained(
        path=path,
        config=config_from_dict(state["config"]),
        classes=tuple(state["classes"]),
        step=state["step"],
        raw=state["model"],
        averaged=state["ema"],
        task=state.get("task", "classes"),
        units=units_from(units) if units else None,
    )


@dataclass(frozen=True, kw_only=True)
class Told:
    """The user's description of a file of weights; None leaves a value to the recipe or the card."""

    recipe: str | None = None
    model: str | None = None
    val_resolution: int | None = None
    val_resize: int | None = None

    def given(self) -> dict[str, Any]:
        """The given values, by key."""
        return {key: value for key, value in vars(self).items() if value is not None}


def described(state: Any, path: Path, told: Told, classes: tuple[str, ...]) -> Trained:
    """The model in what was loaded from `path`: a checkpoint, or exported weights with their card or `told`.

    `classes` are those of weights that no card describes. Raises ArgumentError, and DataError for anything
    else.
    """
    if is_checkpoint(state):
        if told.given():
            names = ", ".join(f"--{key.replace('_', '-')}" for key in told.given())
            raise ArgumentError(
                f"{str(path)!r} is a run's checkpoint and describes its own model. Leave out {names}"
            )
        return trained_of(state, path)
    if isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values()):
        return read_exported(path, state, told, classes)
    raise DataError(
        f"{str(path)!r} is neither a checkpoint of fastpipe-train (format {FORMAT}) nor a plain state_dict, "
        "as --export writes it"
    )


def names_of_outputs(path: Path, state: Any, told: Told) -> tuple[str, ...]:
    """The classes of bare weights that `told` describes: those of the card, or else numbers.

    Their count is then that of the rows of the model's last layer. () for what describes itself.
    """
    if told.recipe is None or is_checkpoint(state) or not isinstance(state, dict):
        return ()
    card = card_path(path)
    if card is not None and card.is_file():
        return tuple(map(str, _card_of(path)["classes"]))
    last = state.get(f"{last_layer(told.model or load_recipe(told.recipe).model)}.weight")
    return tuple(map(str, range(len(last)))) if isinstance(last, Tensor) and last.ndim else ()


def card_path(weights: Path) -> Path | None:
    """The card next to exported weights; None for .safetensors, which has its card in its header.

    An ONNX model's card has another name, so that both can exist.
    """
    if weights.suffix == SUFFIX:
        return None
    name = f"{weights.name}.json" if weights.suffix == ".onnx" else f"{weights.stem}.json"
    return weights.with_name(name)


def card_config(config: TrainConfig) -> dict[str, Any]:
    """The configuration for a card: without the folders of the training machine."""
    return config_to_dict(replace(config, data=None, output_dir=None))


def read_exported(path: Path, weights: Mapping[str, Tensor], told: Told, classes: tuple[str, ...]) -> Trained:
    """The model of `weights`, which were read from `path`.

    Its configuration comes from `told.recipe`, otherwise from the card next to the file (.json), with the
    other values in `told`. Its classes are the card's, or `classes` with a recipe in `told`. Raises
    ArgumentError if neither describes the model.
    """
    if told.recipe is not None:
        config, step = load_recipe(told.recipe), None
        task: Task = "classes" if config.task == "auto" else config.task
    else:
        card = _card_of(path)
        config = config_from_values(card["config"], where=f"the card of {str(path)!r}", recipe="custom")
        classes, step = tuple(map(str, card["classes"])), int(card["step"])
        task = card.get("task", "classes")
    changes = {key: value for key, value in told.given().items() if key != "recipe"}
    if task == "regression":  # outputs in the labels' own units: half precision ends at 65504
        changes["precision"] = "fp32"
    return Trained(
        path=path,
        config=replace(config, **changes),
        classes=classes,
        step=step,
        raw=weights,
        averaged={},
        name="exported",
        task=task,
    )


def _card_of(path: Path) -> dict[str, Any]:
    file = card_path(path)
    where = "the header of the file itself" if file is None else f"the card {str(file)!r}"
    remedy = (
        f"{str(path)!r} holds only weights, without a description of their model: give --recipe "
        "with the run's config.yaml, or with a recipe's name and, if they differ from it, "
        "--model, --val-resolution and --val-resize"
    )
    if file is not None and not file.is_file():
        raise ArgumentError(f"{remedy}. Or keep the card that --export wrote, {file.name!r}, next to it")
    try:
        card: Any = card_in_header(path) if file is None else json.loads(file.read_text(encoding="utf-8"))
        for key in ("config", "classes", "step") if card is not None else ():
            card[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where} cannot be read ({error!r}). {remedy}") from error
    if card is None:
        raise ArgumentError(f"{remedy}. Its header has no card: --export of fastpipe-train did not write it")
    return dict(card)
