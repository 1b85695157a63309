"""This process's place among those that train together. One process for now."""

from __future__ import annotations

import os

from fastpipe.errors import ArgumentError
from fastpipe.types import Shard

__all__ = ["current_shard"]


def current_shard() -> Shard:
    """Rank 0 of 1. Raises ArgumentError among several processes, which would train one model each."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != 1:
        raise ArgumentError(
            f"fastpipe-train runs in one process in this version. Found: WORLD_SIZE={world_size}. Start it "
            "without torchrun, or with --nproc-per-node 1"
        )
    return Shard()
