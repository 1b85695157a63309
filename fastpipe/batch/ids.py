"""The ids that a sampler may give, and the number that keys the random draws of each."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from fastpipe.types import IntArray

__all__ = ["Trail"]

_MASK_63 = (1 << 63) - 1


def positions(batch: Iterable[Any]) -> IntArray:
    """The ids of a batch as positions in a list, int64 [B].

    Raises TypeError for an id that a list refuses as an index, such as a float, a str, a tuple or a numpy
    bool.
    """
    if isinstance(batch, np.ndarray) and batch.ndim == 1 and batch.dtype.kind == "i":
        return batch.astype(np.int64)
    if _plain(batch):
        return np.array(batch, dtype=np.int64)
    return np.array([position_of(one) for one in batch], dtype=np.int64)


def _plain(batch: Any) -> bool:
    """Whether this is a list of plain integers, as nearly every batch is: converted at once."""
    return type(batch) is list and all(type(one) is int and -_MASK_63 <= one <= _MASK_63 for one in batch)


def position_of(sample_id: Any) -> int:
    """An id as the index of a list. TypeError for an id that a list refuses."""
    try:
        return operator.index(sample_id)
    except TypeError:
        raise TypeError(
            f"list indices must be integers or slices, not {type(sample_id).__name__}. "
            f"Found: the sample id {sample_id!r}"
        ) from None


def draw_keys(sample_ids: Sequence[Any], position: int) -> IntArray:
    """The numbers that key the draws of ids of any type, int64 [len(sample_ids)].

    An integer is its own key. A str, a float or a tuple is hashed by its value, the same in every process. An
    object without such a value is keyed by its place in the epoch's order; `position` is that of the first.
    """
    if _plain(sample_ids):
        return np.array(sample_ids, dtype=np.int64)
    return np.array([_key(one, position + place) for place, one in enumerate(sample_ids)], dtype=np.int64)


def _key(sample_id: Any, place: int) -> int:
    if not isinstance(sample_id, bool | np.bool_):
        try:
            number = operator.index(sample_id)
        except (TypeError, ValueError):
            pass
        else:
            if -(1 << 63) <= number <= _MASK_63:
                return number
    text = _text(sample_id)
    digest = hashlib.blake2b((text or f"place {place}").encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & _MASK_63


def _text(value: Any) -> str | None:
    """A text that distinguishes values and is the same in every process; None for an object without one."""
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        parts = [_text(one) for one in value]
        return None if None in parts else f"({', '.join(str(part) for part in parts)})"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return f"{type(value).__name__} {value!r}"
    return None


class Trail:
    """A hash of the ids delivered so far, independent of their division into batches."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, ids: IntArray) -> None:
        """The ids of the next batch."""
        self._hash.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return self._hash.hexdigest()
