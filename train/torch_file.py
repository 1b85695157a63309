"""Files of torch.save: read without running their code, and never larger in memory than on the disk."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

_ZIP = b"PK\x03\x04"


def read_torch(path: Path) -> Any:
    """The tensors and plain values in `path`, on the CPU.

    Raises ValueError for parts that unpack to more than the file holds, zipfile's errors for another damaged
    file, and those of torch.load.
    """
    with path.open("rb") as file:
        packed = file.read(len(_ZIP)) == _ZIP
    if packed:  # not so in files of torch 1.5 and before
        _check_parts(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_sums(path: Path) -> None:
    """Raise ValueError for a changed byte: torch writes a checksum of every part and reads none of them."""
    with zipfile.ZipFile(path) as parts:
        _check_sizes(parts, path)
        damaged = parts.testzip()
    if damaged is not None:
        raise ValueError(f"its part {damaged} is damaged")


def _check_parts(path: Path) -> None:
    with zipfile.ZipFile(path) as parts:
        _check_sizes(parts, path)


def _check_sizes(parts: zipfile.ZipFile, path: Path) -> None:
    """torch.save compresses nothing, and torch.load would unpack a thousand times what it reads."""
    unpacked, held = sum(part.file_size for part in parts.infolist()), path.stat().st_size
    if unpacked > held:
        raise ValueError(
            f"its parts must be stored as torch.save stores them, not compressed. Found: {unpacked:,} bytes "
            f"in a file of {held:,}"
        )
