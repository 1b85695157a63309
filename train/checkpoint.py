"""Saving and loading a run's state so that no moment of a crash loses it.

A checkpoint is plain: tensors, numbers, strings, lists and dicts, so that `torch.load(weights_only=True)`
reads it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastpipe.errors import DataError

__all__ = ["FORMAT", "load_checkpoint", "plain", "rng_state", "save_checkpoint", "set_rng_state"]

FORMAT = 1


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write `state` to a temporary file, flush it to the disk, then rename it to `path`.

    Whatever happens before the rename leaves the previous file untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **plain(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # The rename itself is on the disk only when the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state saved at `path`, on the CPU. Raises DataError for a missing, damaged or foreign file."""
    if not path.is_file():
        raise DataError(
            f"checkpoint {str(path)!r} does not exist. --resume takes auto or the path of a last.ckpt"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise DataError(f"checkpoint {str(path)!r} cannot be read: {error}") from error
    if state.get("format") != FORMAT:
        raise DataError(f"{str(path)!r} is not a checkpoint of fastpipe-train (format {FORMAT})")
    return state


def plain(value: Any) -> Any:
    """`value` with numpy arrays and scalars as tensors and Python numbers, sets of keys kept."""
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
    """The state of every global generator: Python, NumPy, torch, CUDA."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "python": [version, list(internal), gauss_next],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put every global generator back to what `rng_state` returned."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
