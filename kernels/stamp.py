"""The key of a cache of compiled kernels: a hash of the room's whole source."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def source_stamp() -> str:
    """64 hexadecimal digits that change with the name or content of any source file of this room."""
    room = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(room.rglob("*.py")):
        digest.update(path.relative_to(room).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
