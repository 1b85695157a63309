"""Weights & Biases in addition to metrics.jsonl and TensorBoard, with `--wandb PROJECT`.

A run there is one run folder: its id is kept in `wandb-id.txt`, so that a resumed run continues the same
curves. Points logged after the checkpoint of the resumed run stay: W&B does not take a step twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.train.config.keys import config_to_dict
from fastpipe.train.config.schema import TrainConfig

_ID_FILE = "wandb-id.txt"


class Tracker(Protocol):
    """What also takes the numbers of a run folder."""

    def log(self, kind: str, step: int, values: Mapping[str, float | int | None]) -> None:
        """The numbers of a step or of an epoch (`kind`)."""

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """The contents of summary.json."""

    def close(self, *, stopped: bool = False) -> None:
        """The run is over; without a summary before, it failed, or was stopped by a signal. Never raises."""


def import_wandb() -> Any:
    """The module wandb. Raises MissingExtraError without it."""
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("wandb", "wandb", "--wandb") from error
    return wandb


class WandbRun:
    """A run of W&B that takes the numbers of a run folder."""

    def __init__(self, project: str, folder: Path, config: TrainConfig, *, quiet: bool = False) -> None:
        wandb, kept = import_wandb(), folder / _ID_FILE
        before = kept.read_text(encoding="utf-8").strip() if kept.exists() else None
        try:
            self._run = wandb.init(
                project=project,
                name=folder.name,
                dir=str(folder),
                config=config_to_dict(config),
                id=before,
                resume="allow" if before else None,
                settings={"console": "off", "silent": quiet},
            )
        except Exception as error:  # wandb has many kinds: no key, no network, a wrong name
            raise ArgumentError(
                f"--wandb {project!r}: W&B did not start a run: {error}. Log in with `wandb login`, or set "
                "WANDB_MODE=offline and upload the folder later with `wandb sync`"
            ) from error
        kept.write_text(self._run.id + "\n", encoding="utf-8")
        self._finished = False

    def log(self, kind: str, step: int, values: Mapping[str, float | int | None]) -> None:
        """The numbers of a step or an epoch under the names that TensorBoard has."""
        known = {f"{kind}/{name}": value for name, value in values.items() if value is not None}
        self._run.log(known, step=step)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Log the plain values of summary.json; from here on the run counts as finished."""
        plain = {name: value for name, value in summary.items() if isinstance(value, int | float | str)}
        self._run.summary.update(plain)
        self._finished = True

    def close(self, *, stopped: bool = False) -> None:
        """End the run; without a summary, as a failed one, since W&B knows no stopped ones."""
        try:
            self._run.finish(exit_code=0 if self._finished else 1)
        except Exception as error:  # a server that is gone must not hide why the run ended
            warnings.warn(f"W&B did not end its run, metrics.jsonl has all numbers: {error}", stacklevel=2)
