"""The parts of a run, made on every rank: the data, the fitted configuration, loader and model."""

from __future__ import annotations

import random
import warnings
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from fastpipe.errors import NoEffectWarning
from fastpipe.loader import DataLoader
from fastpipe.train.config.checks import check_on_error, check_world_size
from fastpipe.train.config.fit import Fitted, fit_to_data
from fastpipe.train.config.fit_task import fit_to_task
from fastpipe.train.config.groups import TableConfig
from fastpipe.train.config.no_effect import warn_without_effect
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import train_loader
from fastpipe.train.distributed import one_at_a_time
from fastpipe.train.metrics.table import Chosen, chosen
from fastpipe.train.model import build_model
from fastpipe.train.splits import Indexes, open_data
from fastpipe.train.tables import TablePart
from fastpipe.train.units import Units, units_of
from fastpipe.types import Shard

# Between the seeds of two ranks.
_FAR = 1_000_003


def fitted_here(
    config: TrainConfig, shard: Shard, *, explicit: Collection[str], recipe_batch_size: int | None
) -> tuple[Fitted, Indexes]:
    """The configuration fitted to the data, and the indexes; a machine's first process makes missing files.

    Raises ArgumentError if the batch cannot be divided among the ranks.
    """
    with one_at_a_time():
        indexes = open_data(config.data or "", held_out=config.held_out, table=config.table, task=config.task)
    told = fit_to_task(config, indexes.task, explicit=explicit)
    if "held_out" in explicit and not indexes.held_out:
        warnings.warn(
            f"held_out applies to a single .beton or list, and {config.data!r} already has images to "
            f"measure on",
            NoEffectWarning,
            stacklevel=2,
        )
    if config.table != TableConfig() and not isinstance(indexes.train, TablePart):
        warnings.warn(
            f"table names columns of a list, and {config.data!r} is none", NoEffectWarning, stacklevel=2
        )
    num = len(indexes.train)
    fitted = fit_to_data(told.config, num, explicit=explicit, recipe_batch_size=recipe_batch_size)
    fitted = replace(fitted, of_task=told.changes)
    check_world_size(fitted.config, shard.world_size)
    check_on_error(config, shard.world_size)
    return fitted, indexes


def make_parts(
    config: TrainConfig, indexes: Indexes, shard: Shard, device: torch.device, *, explicit: Collection[str]
) -> tuple[DataLoader[Any], nn.Module]:
    """This rank's loader and the model, with the same weights on every rank."""
    seed_everything(config.seed)
    # A rank mixes its own share: one image cannot be mixed.
    with_share = replace(config, batch_size=config.batch_size // shard.world_size)
    warn_without_effect(with_share, explicit=explicit)
    loader = train_loader(config, indexes.train, shard, device)
    model = build_model(config, len(indexes.classes), device)
    if shard.rank > 0:  # stochastic depth draws masks of its own on every rank
        seed_everything(config.seed + _FAR * shard.rank)
    return loader, model


def metrics_of(config: TrainConfig, indexes: Indexes) -> Chosen:
    """The metrics of the run. Raises ArgumentError for one that has no meaning for the labels."""
    return chosen(indexes.task, config.metric, config.best_metric, num_classes=len(indexes.classes))


def units_here(indexes: Indexes, model: nn.Module) -> Units | None:
    """The units of labels that are numbers; None for others. Raises what `units_of` raises."""
    if not isinstance(indexes.train, TablePart) or indexes.task != "regression":
        return None
    return units_of(indexes.train.labels, indexes.classes, model)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
