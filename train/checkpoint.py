"""Saving and loading a run's state; a crash at any moment loses nothing.

A checkpoint is plain: tensors, numbers, strings, lists and dicts, so that `torch.load(weights_only=True)`
reads it. The previous one stays as `previous.ckpt`.
"""

from __future__ import annotations

import os
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastpipe.errors import DataError, MissingExtraError
from fastpipe.train.disk import clear_away, save_tensors, why_not_written
from fastpipe.train.safetensors_file import SUFFIX, read_safetensors
from fastpipe.train.torch_file import read_torch

FORMAT = 3
PREVIOUS = "previous.ckpt"
BEST = "best.ckpt"


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write `state` to a temporary file, flush it to the disk, then rename it to `path`.

    The old file at `path` becomes `previous.ckpt` next to it. At any time, one of the two is complete. Raises
    DataError when the disk refuses the write.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for stale in path.parent.glob(f".{path.name}.*.tmp"):  # from a run that was killed while writing
        clear_away(stale)
    try:
        save_tensors({"format": FORMAT, **plain(state)}, temporary)
        if path.exists():
            os.replace(path, path.with_name(PREVIOUS))
        os.replace(temporary, path)
        _sync(path.parent)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"checkpoint {str(path)!r} could not be written: {why_not_written(error)}. The previous one is "
            "untouched: make room and continue with --resume auto"
        ) from error
    finally:
        clear_away(temporary)


def link_checkpoint(path: Path, other: Path) -> None:
    """Give the checkpoint at `path` the second name `other` in one move; a copy where links are not possible.

    Checkpoints are replaced, never changed, so a link keeps what it was made for. Raises DataError when the
    disk refuses it.
    """
    if other.exists() and other.samefile(path):
        return
    temporary = other.with_name(f".{other.name}.{os.getpid()}.tmp")
    for stale in other.parent.glob(f".{other.name}.*.tmp"):
        clear_away(stale)
    try:
        try:
            os.link(path, temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, temporary)
            _sync(temporary)
        os.replace(temporary, other)
        _sync(other.parent)
    except OSError as error:
        raise DataError(
            f"checkpoint {str(other)!r} could not be written: {why_not_written(error)}. {str(path)!r} is "
            "whole: make room and continue with --resume auto"
        ) from error
    finally:
        clear_away(temporary)


def _sync(path: Path) -> None:
    # A rename is on the disk only when its folder is.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state saved at `path`, on the CPU. Raises DataError for a missing, damaged or foreign file."""
    state: dict[str, Any] = load_plain(path)
    if not is_checkpoint(state):
        raise DataError(f"{str(path)!r} is not a checkpoint of fastpipe-train (format {FORMAT})")
    return state


def is_checkpoint(state: Any) -> bool:
    """Whether the loaded value is a checkpoint of this format."""
    return isinstance(state, dict) and state.get("format") == FORMAT


def load_plain(path: Path) -> Any:
    """The tensors and plain values in a file of torch.save or safetensors, on the CPU; no code of it is run.

    Raises DataError for a missing or damaged file.
    """
    if not path.is_file():
        raise DataError(f"checkpoint {str(path)!r} does not exist. Name the last.ckpt of a run")
    try:
        if path.suffix == SUFFIX:
            return read_safetensors(path)
        return read_torch(path, check_sums=True)
    except MissingExtraError:
        raise
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise DataError(f"checkpoint {str(path)!r} cannot be read: {error}") from error


def load_newest(path: Path) -> tuple[dict[str, Any], Path]:
    """The state at `path`; if it is damaged or gone, that of `previous.ckpt` next to it, with a warning.

    Returns the state and its file. If neither can be read, raises the error of `load_checkpoint` for `path`.
    """
    try:
        return load_checkpoint(path), path
    except DataError as error:
        previous = path.with_name(PREVIOUS)
        if path == previous or not previous.is_file():
            raise
        try:
            state = load_checkpoint(previous)
        except DataError:
            raise error from None
        warnings.warn(f"{error}. Continuing from {PREVIOUS}, which is older", UserWarning, stacklevel=2)
        return state, previous


def plain(value: Any) -> Any:
    """`value` with numpy arrays and scalars as tensors and Python numbers; the keys stay the same."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    return value


def rng_state() -> dict[str, Any]:
    """The state of this process's global generators: Python, NumPy, torch, its CUDA device."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "python": [version, list(internal), gauss_next],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put every global generator back to what `rng_state` returned."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
