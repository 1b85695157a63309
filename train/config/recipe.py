"""Recipes: from a file or a name to a checked configuration, and back to YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.config.group_files import dump_yaml, load_yaml, text_of, with_groups_read
from fastpipe.train.config.keys import (
    check_keys,
    config_from_dict,
    config_to_dict,
    flat_keys,
    group_classes,
    suggest,
)
from fastpipe.train.config.parser import (
    AUGMENTED,
    RECIPES,
    checked,
    make_parser,
    recipe_names,
)
from fastpipe.train.config.schema import TrainConfig

__all__ = ["load_recipe"]

_AUGMENTATIONS = (
    "randaugment",
    "colout",
    "random_erasing",
    "mixup_alpha",
    "cutmix_alpha",
    "mixup_switch_prob",
)


def load_recipe(name: str) -> TrainConfig:
    """A recipe by name, or from a .yaml file (as `--print-config` prints it and every run saves it)."""
    is_file = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_file else RECIPES / f"{name}.yaml"
    if not path.is_file():
        if is_file:
            raise ArgumentError(
                f"recipe file {name!r} does not exist. Recipes by name: {', '.join(recipe_names())}"
            )
        raise ArgumentError(f"unknown recipe {name!r}. {suggest(name, recipe_names())}")
    return config_from_values(_values_of(path), where=f"recipe {name!r}", recipe=path.stem)


def _values_of(path: Path) -> dict[str, Any]:
    values = load_yaml(text_of(path, "--recipe"), where=f"recipe {str(path)!r}")
    if not isinstance(values, Mapping):
        raise ArgumentError(f"recipe {str(path)!r} must hold keys and values, as --print-config prints them")
    return with_groups_read(values, path.parent)


def config_from_values(values: Mapping[str, Any], *, where: str, recipe: str) -> TrainConfig:
    """The configuration in nested values of a file, checked; `recipe` is its name if they hold none.

    Raises ArgumentError, with `where`, for an unknown key or a wrong type.
    """
    check_keys(values, where=where)
    for name in group_classes():
        if not isinstance(values.get(name, {}), Mapping | None):
            raise ArgumentError(f"{name} in {where} must hold keys and values. Found: {values[name]!r}")
    recipe = str(values.get("recipe", recipe))
    typed = checked(lambda: make_parser().parse_object(without_recipe(values))).as_dict()
    config: TrainConfig = config_from_dict(
        {k: typed[k] for k in flat_keys() if k in typed} | {"recipe": recipe}
    )
    return config


def to_yaml(config: TrainConfig) -> str:
    """The whole configuration as YAML, in the order of the documentation."""
    return dump_yaml(config_to_dict(config))


def with_augmentations(values: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """`values` (nested) with the augmentations of a published recipe, or with none; None: unchanged."""
    if name is None:
        return dict(values)
    if name not in AUGMENTED:
        raise ArgumentError(f"--augment must be one of {', '.join(AUGMENTED)}. Found: {name!r}")
    chosen = config_to_dict(TrainConfig()) if name == "none" else _values_of(RECIPES / f"{name}.yaml")
    return {**values, **{key: chosen[key] for key in _AUGMENTATIONS}}


def without_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without the name of the recipe, which is not an option."""
    return {key: value for key, value in values.items() if key != "recipe"}
