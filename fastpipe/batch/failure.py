"""A batch that could not be made, on its way to the consumer, who may continue with the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NoReturn, TypeVar

import torch.utils.data
from torch._utils import ExceptionWrapper

from fastpipe.errors import SampleError

__all__ = ["Failure", "Results"]

T = TypeVar("T")


class Failure:
    """Takes a batch's place."""

    def __init__(self, error: Exception | ExceptionWrapper) -> None:
        self.error = error

    @classmethod
    def caught(cls, error: Exception) -> Failure:
        """Call it within `except`. A worker's SampleError stays whole; other errors become torch's text."""
        info = torch.utils.data.get_worker_info()
        if info is None or isinstance(error, SampleError):
            return cls(error)
        wrapper: Callable[..., ExceptionWrapper] = ExceptionWrapper
        return cls(wrapper(where=f"in DataLoader worker process {info.id}"))

    def throw(self) -> NoReturn:
        """Raise it, as torch's loader would have."""
        error: Any = self.error
        try:
            if isinstance(error, ExceptionWrapper):
                error.reraise()  # type: ignore[no-untyped-call]
            raise error
        finally:
            del self, error  # the traceback holds this frame


class Results(Iterator[T], Generic[T]):
    """Raises the failures among the items, and continues after them as torch's iterators do.

    An error of `items` itself (dead workers, a failing sampler) belongs to no batch: every later call raises
    it again, because StopIteration would tell a script that catches errors that the epoch is complete.
    workers: the worker processes, under torch's name.
    """

    def __init__(self, items: Iterator[T | Failure], *, workers: Sequence[Any] = ()) -> None:
        self._items = items
        self._error: Exception | None = None
        self.workers = workers

    @property
    def over(self) -> bool:
        """Whether an error of `items` itself has ended the epoch."""
        return self._error is not None

    def __next__(self) -> T:
        if self._error is not None:
            raise self._error
        try:
            item = next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise
        if isinstance(item, Failure):
            try:
                item.throw()
            finally:
                del item  # the traceback holds this frame
        return item
