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
# The package takes headers of 100 MB, which may name a million empty tensors: minutes, and gigabytes. The
# header of a model with 10,000 tensors has 1 MB, and a card with 20,000 classes as much.
_LARGEST_HEADER, _MOST_TENSORS = 16 << 20, 100_000


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
    """The tensors in `path`, on the CPU, by name.

    Raises ValueError for a header that is too large to be one of weights, and the package's SafetensorError
    for a damaged file: it compares names, shapes, types and places in the file before it reads a tensor.
    """
    library = _torch_side()
    _check_header(path)
    tensors: dict[str, Tensor] = library.load_file(path)
    return tensors


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST_HEADER:
            raise ValueError(f"its header must have at most {_LARGEST_HEADER} bytes. Found: {size}")
        number = file.read(size).count(b'"data_offsets"')
    if number > _MOST_TENSORS:
        raise ValueError(f"it must have at most {_MOST_TENSORS} tensors. Found: {number}")


def card_in_header(path: Path) -> Any:
    """The card in the header of `path`; None if another program wrote the file."""
    _torch_side()
    _check_header(path)
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
