"""Samplers inside samplers: which one decides the order inside the batch samplers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["batch_samplers", "deciding_sampler"]


def batch_samplers(outermost: Any) -> Iterator[Any]:
    """The batch sampler, then the one it takes its batches from, and so on inwards."""
    seen: set[int] = set()
    inner = outermost
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        inner = getattr(inner, "batch_sampler", None)


def deciding_sampler(sampler: Any, batch_sampler: Any) -> Any:
    """The sampler of ids inside `batch_sampler`, else `sampler`.

    A torch loader given a batch sampler has a SequentialSampler as `sampler`, which is never iterated.
    """
    for inner in batch_samplers(batch_sampler):
        found = getattr(inner, "sampler", None)
        if found is not None:
            return found
    return sampler
