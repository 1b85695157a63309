"""Which checkpoint a run continues from, whether it fits the run, and which settings may have changed.

The table in docs/training.md lists `MAY_CHANGE`; a change of any other key is an error that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.checkpoint import BEST, PREVIOUS, link_checkpoint, load_checkpoint, load_newest
from fastpipe.train.config.keys import check_keys, config_from_dict, config_to_dict, differing
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.disk import clear_away
from fastpipe.train.loop import Trainer
from fastpipe.train.output.folder import CHECKPOINT

MAY_CHANGE = (
    # These act from the next step on, and leave the gathered state alone.
    *("optimizer.lr", "optimizer.momentum", "optimizer.beta2", "optimizer.weight_decay"),
    *("grad_clip", "skip_nonfinite", "on_error", "max_bad"),
    *("schedule.name", "schedule.warmup_epochs", "schedule.warmup_start", "schedule.resolution"),
    "schedule.min_lr",
    # How the same thing is computed, and where.
    *("precision", "channels_last", "compile", "backend", "num_workers"),
    # What is written and where; the same images may have moved.
    *("recipe", "data", "output_dir", "checkpoint_interval", "validate_raw"),
    *("table.path", "table.label", "table.split", "table.separator"),
    *("metric", "best_metric", "early_stopping"),
    # These change other keys, or decide what labels are, which is compared.
    *("fit_to_data", "schedule_scale", "task"),
)


def checkpoint_to_resume(resume: str | None, output_dir: str | None) -> Path | None:
    """The file for `--resume`: "auto" is the newest in `output_dir`, or None if there is none."""
    if resume is None:
        return None
    if resume != "auto":
        return Path(resume)
    if output_dir is None:
        raise ArgumentError("--resume auto needs --output-dir, the folder of the run to continue")
    newest = Path(output_dir) / CHECKPOINT
    return newest if newest.exists() or newest.with_name(PREVIOUS).exists() else None


def load_to_resume(resume: str | None, output_dir: str | None) -> tuple[dict[str, Any], Path] | None:
    """The state to continue from and its file, or None. A damaged file is replaced by the previous one."""
    path = checkpoint_to_resume(resume, output_dir)
    if path is None:
        return None
    return (load_checkpoint(path), path) if path.name == BEST else load_newest(path)


def made_last(path: Path, folder: Path) -> str:
    """Make the resumed checkpoint at `path` the last.ckpt of `folder`; a sentence if that replaces another.

    Until this run saves, --resume auto would go on from the later epochs of an earlier one, whose lines are
    gone from metrics.jsonl, or begin anew in a new folder. Raises DataError if it cannot be written.
    """
    last, previous = folder / CHECKPOINT, folder / PREVIOUS
    if last.exists() and last.samefile(path):
        return ""
    replaced = last.exists()
    link_checkpoint(path, last)
    if previous.exists() and not previous.samefile(last):  # it would be taken if last.ckpt were damaged
        clear_away(previous)
    return f"{CHECKPOINT} in {str(folder)!r} is now the resumed {path.name}" if replaced else ""


def changes(saved: Mapping[str, Any], config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """What differs between a checkpoint's configuration and this run's: dotted key -> (there, here).

    A group that only one of the two has is one entry. For a key that the checkpoint does not have, the
    default is compared.
    """
    check_keys(saved, where="the checkpoint")
    return differing(config_to_dict(config_from_dict(saved)), config_to_dict(config))


def changed_with(state: Mapping[str, Any], config: TrainConfig) -> list[dict[str, Any]]:
    """The step after which a run was resumed, and its settings before and now."""
    now = [
        {"step": state["step"], "key": key, "before": before, "after": after}
        for key, (before, after) in changes(state["config"], config).items()
    ]
    return [*state.get("changed", []), *now]


def check_fits(
    state: dict[str, Any], path: Path, trainer: Trainer, classes: tuple[str, ...], last_epoch: int
) -> None:
    """Raise ArgumentError for a checkpoint of other data, or with a changed setting that must not change.

    Also for a checkpoint past `last_epoch`, at which this run ends.
    """
    _check_data(path, "labels that are", state.get("task", "classes"), trainer.task)
    _check_data(path, "classes", list(state["classes"]), list(classes))
    refused = {
        key: pair for key, pair in changes(state["config"], trainer.config).items() if key not in MAY_CHANGE
    }
    if refused:
        _refuse(path, refused)
    _check_data(path, "steps", state["schedule"]["total_steps"], trainer.lr.total_steps)
    if state["epochs_measured"] > last_epoch:
        raise ArgumentError(
            f"the checkpoint {str(path)!r} has {state['epochs_measured']} epochs, and --extrapolate-from "
            f"{last_epoch} ends earlier. Leave out the option, or begin in another folder"
        )


def _check_data(path: Path, name: str, there: Any, here: Any) -> None:
    if there != here:
        raise ArgumentError(
            f"the checkpoint {str(path)!r} was made with {name} {_short(there)}, this run has "
            f"{_short(here)}. Resume with the data it was made with, or begin in another folder"
        )


def _refuse(path: Path, refused: Mapping[str, tuple[Any, Any]]) -> None:
    pairs = [f"{key} {_short(there)}, this run has {_short(here)}" for key, (there, here) in refused.items()]
    options = ", ".join(f"--{key.replace('_', '-')}" for key in refused)
    raise ArgumentError(
        f"the checkpoint {str(path)!r} was made with {'; with '.join(pairs)}. This cannot change on resume: "
        f"give the old {options}, or begin in another folder. docs/training.md lists what may change"
    )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 5:
        return f"{value[:5]} and {len(value) - 5} more"
    return repr(value)
