"""The copy that the trial runs on, and what `__getitem__` changes inside it."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torchvision.datasets.vision import StandardTransform

from fastpipe.batch.own.flat import flat_copy
from fastpipe.batch.own.half import HostHalf
from fastpipe.batch.own.twin import datasets_in, is_dataset
from fastpipe.transforms.finalizers import class_with_del

__all__ = ["Refused"]

_LARGEST: Final = 256 << 20  # bytes in arrays and modules


class Followed:
    """A pipeline that counts its calls and remembers its latest result."""

    def __init__(self, pipeline: Callable[..., Any]) -> None:
        self._pipeline = pipeline
        self.num = 0
        self.result: Any = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        """What the pipeline returns."""
        self.num += 1
        self.result = self._pipeline(*given, **named)
        return self.result


# What stands in for a pipeline, and what holds one.
_APART: Final = (HostHalf, Followed, StandardTransform)


class Refused(Exception):
    """The data set is not lifted. The message is the condition that failed, in words."""


def isolated(dataset: Any, shared: Sequence[Any]) -> Any:
    """A deep copy; the pipelines, and the texts and numbers in flat lists, are the data set's own."""
    ending = class_with_del(dataset)
    if ending is not None:
        raise Refused(f"its {ending.__qualname__} has a __del__, which would also run for each copy of it")
    owners = datasets_in(dataset)
    held = [value for owner in owners for value in getattr(owner, "__dict__", {}).values()]
    size = sum(_num_bytes(value) for value in held)
    if size > _LARGEST:
        raise Refused(
            f"its arrays and modules take {size >> 20} MiB, and the trial copies at most {_LARGEST >> 20} MiB"
        )
    memo: dict[int, Any] = {id(value): value for value in shared}
    flat = ((value, flat_copy(value)) for value in held)
    memo.update({id(value): copied for value, copied in flat if copied is not None})
    try:
        return copy.deepcopy(dataset, memo)
    except Exception as error:
        raise Refused(f"it cannot be copied for a trial ({words(error)})") from error


def _num_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray | torch.Tensor):
        return int(value.nbytes)
    if isinstance(value, torch.nn.Module):
        return sum(int(tensor.nbytes) for tensor in value.state_dict().values())
    if isinstance(value, list | tuple | dict):
        values = value.values() if isinstance(value, dict) else value
        return sum(int(getattr(one, "nbytes", 0)) for one in values)
    return 0


def marks_of(owners: Sequence[Any]) -> list[dict[str, Any]]:
    """What each attribute holds, so that a change inside it is seen."""
    return [
        {name: _mark(value) for name, value in getattr(owner, "__dict__", {}).items()} for owner in owners
    ]


def _mark(value: Any) -> Any:
    if value is None or type(value) in _APART or is_dataset(value):
        return value  # what lies inside has marks of its own
    if type(value) in (list, tuple) and all(map(is_dataset, value)):
        return tuple(map(id, value))
    flat = flat_copy(value)
    if flat is not None:
        return flat
    try:
        return hashlib.blake2b(pickle.dumps(value)).digest()
    except Exception:  # of any kind: handles and lambdas have no bytes
        return id(value)


def check_changes(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], *, opening: bool
) -> None:
    """Raise Refused if `__getitem__` changed its data set. opening: None may become a handle."""
    for was, now in zip(before, after, strict=True):
        for name in now.keys() | was.keys():
            if opening and was.get(name) is None:
                continue
            if name not in now or name not in was or not _equal(was[name], now[name]):
                raise Refused(
                    f"its __getitem__ changes the attribute {name!r}, so a sample may not be made twice"
                )


def _equal(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def words(error: Exception) -> str:
    """The error on one line, at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
