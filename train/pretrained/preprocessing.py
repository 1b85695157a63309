"""What weights bring along besides numbers: mean, std, interpolation, the share of the centre crop, sizes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.config.checks import round_to_multiple
from fastpipe.train.config.keys import config_to_dict, differing
from fastpipe.train.config.schema import TrainConfig

_FILTERS = ("bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the images of a model were prepared.

    crop_pct: the side of the centre crop as a share of the resized shorter side. fixed: the model takes
    images of `train_size` only. mean, std: RGB in 0..1.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float
    train_size: int
    val_size: int
    fixed: bool = False


def of_data_config(found: Mapping[str, Any]) -> Preprocessing:
    """From timm's data configuration, whose two sizes are one."""
    size = found["input_size"][-1]
    return Preprocessing(
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        interpolation=found["interpolation"],
        crop_pct=found["crop_pct"],
        train_size=size,
        val_size=size,
        fixed=found["fixed_input_size"],
    )


def of_config(config: TrainConfig) -> Preprocessing:
    """From the configuration of an earlier run."""
    return Preprocessing(
        mean=config.mean,
        std=config.std,
        interpolation=config.interpolation,
        crop_pct=config.val_resolution / config.val_resize,
        train_size=config.train_resolution,
        val_size=config.val_resolution,
    )


def taken_over(
    config: TrainConfig, own: Preprocessing, explicit: Collection[str]
) -> tuple[TrainConfig, dict[str, tuple[Any, Any]]]:
    """`config` with the preprocessing of the model, and what changed: key -> (before, after).

    Keys in `explicit` stay. The result has preprocessing "recipe", so that its file repeats the run as it is.
    Raises ArgumentError for an interpolation that the loader does not have.
    """
    if config.preprocessing == "recipe":
        return config, {}
    if own.interpolation not in _FILTERS and "interpolation" not in explicit:
        raise ArgumentError(
            f"interpolation must be one of {', '.join(_FILTERS)}, and {config.model} was trained with "
            f"{own.interpolation!r}. Give --interpolation"
        )
    values: dict[str, Any] = {"mean": own.mean, "std": own.std, "interpolation": own.interpolation}
    if config.preprocessing == "model" or own.fixed:
        values |= _sizes(own, explicit)
    values = {key: value for key, value in values.items() if key not in explicit}
    if "val_resize" not in explicit and (config.preprocessing != "input" or own.fixed):
        # As timm rounds: 224 / 0.95 is 235.
        size = values.get("val_resolution", config.val_resolution)
        values["val_resize"] = math.floor(size / own.crop_pct + 1e-9)
    taken = replace(config, preprocessing="recipe", **values)
    told = {**config_to_dict(taken), "preprocessing": config.preprocessing}
    return taken, differing(config_to_dict(config), told)


def _sizes(own: Preprocessing, explicit: Collection[str]) -> dict[str, Any]:
    """Both sizes; a validation size that follows a training size of the user is left to follow it."""
    sizes = {"train_resolution": round_to_multiple(own.train_size, 4)}
    if "train_resolution" not in explicit:
        sizes["val_resolution"] = round_to_multiple(own.val_size, 4)
    return sizes
