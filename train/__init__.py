"""The trainer: recipes as YAML, one file per method, and a loop that takes ten minutes to read.

    from dataclasses import replace
    from fastpipe.train import load_recipe, run
    run(replace(load_recipe("mild"), data="demo", model="resnet18"))

Everything here is imported on first use; optional packages are imported later still.
"""

from __future__ import annotations

import importlib
from typing import Any

import fastpipe.installed  # noqa: F401 - refuses another project's `fastpipe`, which may be in front

__all__ = ["DivergedError", "NoEffectWarning", "TrainConfig", "augment_specs", "load_recipe", "run"]

_HOMES = {
    "DivergedError": "fastpipe.train.errors",
    "NoEffectWarning": "fastpipe.errors",
    "TrainConfig": "fastpipe.train.config.schema",
    "augment_specs": "fastpipe.train.augment",
    "load_recipe": "fastpipe.train.config.recipe",
    "run": "fastpipe.train.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
