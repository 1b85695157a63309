"""Files of weights: torch's, with tensors and plain values only, and safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fastpipe.errors import ArgumentError, DataError, MissingExtraError
from fastpipe.train.checkpoint import is_checkpoint
from fastpipe.train.safetensors_file import SUFFIX, read_safetensors
from fastpipe.train.torch_file import read_torch

_TORCH = (".pth", ".pt", ".bin")
# Where training programs keep the weights in a file that holds more; timm looks there, too.
_INSIDE = ("state_dict", "model", "model_state_dict")


def read_file(path: Path) -> dict[str, Tensor]:
    """The weights in a file, on the CPU; no code of the file is run.

    Takes a state_dict, or a dict that holds one under `state_dict`, `model` or `model_state_dict`; a leading
    `module.` (of DataParallel) is cut off. Raises ArgumentError for another ending or a missing file, and
    DataError for a file that holds no weights.
    """
    if path.suffix not in (*_TORCH, SUFFIX):
        raise ArgumentError(
            f"pretrained must be true, package, or a file that ends in {', '.join((*_TORCH, SUFFIX))}. "
            f"Found: {str(path)!r}. For the checkpoint of a run, give --init-from"
        )
    if not path.is_file():
        raise ArgumentError(f"pretrained: the file of weights {str(path)!r} does not exist")
    try:
        state = read_safetensors(path) if path.suffix == SUFFIX else read_torch(path)
    except MissingExtraError:
        raise
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise DataError(f"the weights in {str(path)!r} cannot be read: {error}") from error
    return _weights_of(state, path)


def _weights_of(state: Any, path: Path) -> dict[str, Tensor]:
    if is_checkpoint(state):
        raise ArgumentError(
            f"{str(path)!r} is the checkpoint of a run. Give --init-from {path}, which also takes over what "
            "the run knows of its model"
        )
    if isinstance(state, Mapping):
        state = next((state[key] for key in _INSIDE if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(
            f"{str(path)!r} must hold a state_dict: names and tensors, alone or under "
            f"{', '.join(_INSIDE)}. Found: {type(state).__name__}"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
