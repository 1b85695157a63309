"""Weights without a checkpoint, as `--export` writes them, and what says which model they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.cli import config_from_values, load_recipe
from fastpipe.train.config import TrainConfig
from fastpipe.train.keys import config_to_dict
from fastpipe.train.trained import Trained

__all__ = ["Told", "card_config", "card_path", "read_exported"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the user says of a file of weights; None where he leaves it to the recipe or the card."""

    recipe: str | None = None
    model: str | None = None
    val_resolution: int | None = None
    val_resize: int | None = None

    def given(self) -> dict[str, Any]:
        """What was said, by key."""
        return {key: value for key, value in vars(self).items() if value is not None}


def card_path(weights: Path) -> Path:
    """The card beside exported weights; that of a model in ONNX has another name, so that both find room."""
    name = f"{weights.name}.json" if weights.suffix == ".onnx" else f"{weights.stem}.json"
    return weights.with_name(name)


def card_config(config: TrainConfig) -> dict[str, Any]:
    """The configuration as a card carries it: without the folders of the machine it was trained on."""
    return config_to_dict(replace(config, data=None, output_dir=None))


def read_exported(path: Path, weights: Mapping[str, Tensor], told: Told, classes: tuple[str, ...]) -> Trained:
    """The model of `weights`, which were read from `path`.

    Its configuration is that of `told.recipe`, else of the card beside the file (.json), with the other
    values that were told; its classes are the card's, or `classes` where a recipe was told. Raises
    ArgumentError where neither says what model it is.
    """
    if told.recipe is not None:
        config, step = load_recipe(told.recipe), None
    else:
        card = _card_of(path)
        config = config_from_values(card["config"], where=f"the card of {str(path)!r}", recipe="custom")
        classes, step = tuple(map(str, card["classes"])), int(card["step"])
    changes = {key: value for key, value in told.given().items() if key != "recipe"}
    return Trained(
        path=path,
        config=replace(config, **changes),
        classes=classes,
        step=step,
        raw=weights,
        averaged={},
        name="exported",
    )


def _card_of(path: Path) -> dict[str, Any]:
    file = card_path(path)
    remedy = (
        f"--evaluate {str(path)!r} holds weights alone, and what model they are of must be said: give "
        "--recipe with the run's config.yaml, or with a recipe's name and, where they differ from it, "
        "--model, --val-resolution and --val-resize"
    )
    if not file.is_file():
        raise ArgumentError(f"{remedy}. Or keep the card that --export wrote, {file.name!r}, beside it")
    try:
        card: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for key in ("config", "classes", "step"):
            card[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the card {str(file)!r} cannot be read ({error!r}). {remedy}") from error
    return card
