"""Files of torch.save: read without running their code, and never larger in memory than on the disk."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

_ZIP = b"PK\x03\x04"


def read_torch(path: Path, *, check_sums: bool = False) -> Any:
    """The tensors and plain values in `path`, on the CPU.

    check_sums: also compare the checksum of every part, which torch writes and never reads. Files of torch
        1.5 and before have none, and are then refused.
    Raises ValueError for parts that unpack to more than the file holds, or whose checksum differs; zipfile's
    errors for another damaged file, and those of torch.load.
    """
    with path.open("rb") as file:
        packed = file.read(len(_ZIP)) == _ZIP
    if packed or check_sums:
        with zipfile.ZipFile(path) as parts:
            _check_sizes(parts, path)
            damaged = parts.testzip() if check_sums else None
        if damaged is not None:
            raise ValueError(f"its part {damaged} is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_sizes(parts: zipfile.ZipFile, path: Path) -> None:
    """torch.save compresses nothing, and torch.load would unpack a thousand times what it reads."""
    unpacked, held = sum(part.file_size for part in parts.infolist()), path.stat().st_size
    if unpacked > held:
        raise ValueError(
            f"its parts must be stored as torch.save stores them, not compressed. Found: {unpacked:,} bytes "
            f"in a file of {held:,}"
        )
