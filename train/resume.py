"""Which checkpoint a run continues from, and whether it fits the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.checkpoint import PREVIOUS, load_newest
from fastpipe.train.folder import CHECKPOINT
from fastpipe.train.loop import Trainer

__all__ = ["check_fits", "checkpoint_to_resume", "load_to_resume"]


def checkpoint_to_resume(resume: str | None, output_dir: str | None) -> Path | None:
    """The file that `--resume` means: "auto" is the newest in `output_dir`, or None where there is none."""
    if resume is None:
        return None
    if resume != "auto":
        return Path(resume)
    if output_dir is None:
        raise ArgumentError("--resume auto continues the run in --output-dir, which is not given")
    newest = Path(output_dir) / CHECKPOINT
    return newest if newest.exists() or newest.with_name(PREVIOUS).exists() else None


def load_to_resume(resume: str | None, output_dir: str | None) -> tuple[dict[str, Any], Path] | None:
    """The state to continue from and its file, or None. A damaged newest gives way to the one before it."""
    path = checkpoint_to_resume(resume, output_dir)
    return None if path is None else load_newest(path)


def check_fits(
    state: dict[str, Any], path: Path, trainer: Trainer, classes: tuple[str, ...], last_epoch: int
) -> None:
    """Raise ArgumentError for a checkpoint of other classes, model, length, batch or data.

    Also for one that is past `last_epoch`, where this run ends.
    """
    config, saved = trainer.config, state["config"]
    pairs = {
        "classes": (list(state["classes"]), list(classes)),
        "model": (saved["model"], config.model),
        "epochs": (saved["epochs"], config.epochs),
        "batch_size": (saved["batch_size"], config.batch_size),
        "seed": (saved["seed"], config.seed),
        "steps": (state["schedule"]["total_steps"], trainer.lr.total_steps),
    }
    for name, (there, here) in pairs.items():
        if there != here:
            raise ArgumentError(
                f"the checkpoint {str(path)!r} was made with {name} {_short(there)}, this run has "
                f"{_short(here)}. Resume with the same data, model, length, batch size and seed"
            )
    if state["epochs_measured"] > last_epoch:
        raise ArgumentError(
            f"the checkpoint {str(path)!r} has {state['epochs_measured']} epochs, and --extrapolate-from "
            f"{last_epoch} ends before. Leave the option out, or begin in another folder"
        )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 5:
        return f"{value[:5]} and {len(value) - 5} more"
    return repr(value)
