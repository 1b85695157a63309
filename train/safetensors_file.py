"""Weights as a safetensors file: tensors without code, and the card as text in the file's own header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fastpipe.errors import MissingExtraError

SUFFIX = ".safetensors"
# Keys of the header. Other libraries read `format`; the card is JSON, since a header holds texts alone.
_FORMAT, _CARD = "format", "fastpipe"


def check_safetensors() -> None:
    """Raise MissingExtraError unless the package is here."""
    _torch_side()


def write_safetensors(weights: Mapping[str, Tensor], card: Mapping[str, Any], out: Path) -> None:
    """Write `weights` and `card` to `out`, flushed to the disk. Raises the disk's own OSError.

    Tensors must not share memory, which safetensors refuses: `plain_state_dict` copies each of them.
    """
    data = _torch_side().save(dict(weights), metadata={_FORMAT: "pt", _CARD: json.dumps(card)})
    with out.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors in `path`, on the CPU, by name. Raises the package's SafetensorError for a damaged file."""
    tensors: dict[str, Tensor] = _torch_side().load_file(path)
    return tensors


def card_in_header(path: Path) -> Any:
    """The card in the header of `path`; None if another program wrote the file."""
    _torch_side()
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    return json.loads(metadata[_CARD]) if _CARD in metadata else None


def rebuild_safetensors() -> list[str]:
    """Lines of Python that give the model made before them the weights of such a file."""
    return ["from safetensors.torch import load_file", "model.load_state_dict(load_file(PATH))"]


def _torch_side() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise MissingExtraError("safetensors", "train", "A .safetensors file") from error
    return safetensors.torch
