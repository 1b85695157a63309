"""The settings of a run: dotted keys, the methods that are on, and the command that repeats it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from fastpipe.errors import ArgumentError, MissingExtraError

# These say where a run was put and what it was called, not what it did.
_NOT_SETTINGS = ("output_dir", "recipe", "schedule_scale")
SEED = "seed"
# fastpipe-train derives these from the first ones where the command line does not name them.
_FOLLOWERS = {
    "train_resolution": ("val_resolution", "val_resize"),
    "val_resolution": ("val_resize",),
    "epochs": ("progressive_resizing.start_epoch", "progressive_resizing.end_epoch"),
}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values with dotted keys. A group that is off is one key with None."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _above(key: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda flat_values: isinstance(value := flat_values.get(key), int | float) and value > 0


def _group(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda flat_values: any(key.startswith(f"{name}.") for key in flat_values)


def _true(key: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda flat_values: bool(flat_values.get(key))


_METHODS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "bce": lambda flat_values: flat_values.get("loss.name") == "bce",
    "blurpool": _true("blurpool"),
    "channels_last": _true("channels_last"),
    "colout": _above("colout"),
    "cutmix": _above("cutmix_alpha"),
    "ema": _group("ema"),
    "ffcv": lambda flat_values: flat_values.get("backend") == "ffcv",
    "label_smoothing": _above("loss.label_smoothing"),
    "mixup": _above("mixup_alpha"),
    "progressive_resizing": _group("progressive_resizing"),
    "randaugment": _group("randaugment"),
    "random_erasing": _above("random_erasing"),
    "repeated_augmentation": lambda flat_values: (flat_values.get("repeated_augmentation") or 1) != 1,
    "sam": _group("sam"),
    "stochastic_depth": _group("stochastic_depth"),
    "tta": _true("tta"),
}


def methods_of(flat_values: Mapping[str, Any]) -> tuple[str, ...]:
    """The methods that a configuration with dotted keys has on."""
    return tuple(name for name, on in _METHODS.items() if on(flat_values))


def identity_of(flat_values: Mapping[str, Any]) -> str:
    """Equal for runs that differ by their seed and their folder alone."""
    kept = {k: v for k, v in flat_values.items() if k not in (*_NOT_SETTINGS, SEED)}
    return json.dumps([flat_values.get("recipe"), kept], sort_keys=True, default=str)


def command_of(flat_values: Mapping[str, Any], config_file: str) -> str:
    """`fastpipe-train` with the recipe and every key that differs from it.

    With the file of the configuration as the recipe if its own is not one of those that are shipped.
    """
    recipe = str(flat_values.get("recipe"))
    usual = _shipped(recipe)
    if usual is None:
        return shlex.join(["fastpipe-train", "--recipe", config_file])
    return shlex.join(["fastpipe-train", "--recipe", recipe, *_options(usual, flat_values)])


@cache
def _shipped(name: str) -> Mapping[str, Any] | None:
    from fastpipe.train import load_recipe

    if name.endswith((".yaml", ".yml")) or "/" in name:
        return None
    try:
        return flat(asdict(load_recipe(name)))
    except (ArgumentError, MissingExtraError):
        return None


def _options(usual: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    # A group that the recipe has off needs all its keys; `usual` has none of them.
    changed = {key for key, value in wanted.items() if key not in usual or usual[key] != value}
    changed |= {follower for key in changed for follower in _FOLLOWERS.get(key, ()) if follower in wanted}
    for key in wanted:
        if key in changed and key not in _NOT_SETTINGS:
            yield f"--{key.replace('_', '-')}={_word(wanted[key])}"


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)
