"""Runs an iterator in a separate thread, a few items ahead of the consumer."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Ahead"]

T = TypeVar("T")

_POLL_S = 0.2  # how soon a closed consumer releases a thread that waits for room
_JOIN_S = 30.0  # a worker that hangs in user code must not make the consumer's exit hang too


@dataclass(slots=True)
class _Raised:
    error: BaseException


class _End:
    pass


@dataclass(slots=True)
class _Shared(Generic[T]):
    """State shared by thread and consumer. The thread never sees `Ahead`, so `Ahead` can be collected."""

    items: queue.Queue[T | _Raised | _End]
    stop: threading.Event = field(default_factory=threading.Event)

    def put(self, item: T | _Raised | _End) -> bool:
        while not self.stop.is_set():
            try:
                self.items.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def _run(shared: _Shared[T], source: Iterator[T]) -> None:
    try:
        while shared.put(_next(source)):
            pass
    except StopIteration:
        shared.put(_End())
    except BaseException as error:  # handed to the consumer, who raises it
        shared.put(_Raised(error))


def _next(source: Iterator[T]) -> T | _Raised:
    """A separate frame: a delivered batch is not kept alive while the next one is made."""
    try:
        return next(source)
    except StopIteration:
        raise
    except Exception as error:
        return _Raised(error)


def _finish(shared: _Shared[T], thread: threading.Thread, wake: Callable[[], None] | None) -> None:
    shared.stop.set()
    if wake is not None:
        wake()
    if thread is not threading.current_thread():
        thread.join(_JOIN_S)


class Ahead(Generic[T]):
    """Iterator over `source`, computed up to `depth` items ahead in a daemon thread.

    An exception of the source is raised here in its turn, and the items that follow it are yielded; a
    thread that died silently raises RuntimeError instead of a hang. The thread releases the source when it
    ends. wake: releases the thread when `source` waits for the consumer; it is kept, and must not refer to
    the owner of this iterator.
    """

    def __init__(self, source: Iterator[T], *, depth: int, wake: Callable[[], None] | None = None) -> None:
        self._shared: _Shared[T] = _Shared(queue.Queue(maxsize=depth))
        self._thread = threading.Thread(
            target=_run, args=(self._shared, source), name="fastpipe-ahead", daemon=True
        )
        self._thread.start()
        self._finalizer = weakref.finalize(self, _finish, self._shared, self._thread, wake)

    def __iter__(self) -> Ahead[T]:
        return self

    def __next__(self) -> T:
        while True:
            try:
                item = self._shared.items.get(timeout=1.0)
            except queue.Empty:
                if self._thread.is_alive() or not self._shared.items.empty():
                    continue
                raise RuntimeError(
                    "the thread that prepares batches ended without a result, or was lost when this "
                    "process was forked"
                ) from None
            if isinstance(item, _End):
                self.close()
                raise StopIteration
            if isinstance(item, _Raised):
                raise item.error
            return item

    def close(self) -> None:
        """Stop the thread and wait for it; what it prepared is dropped."""
        self._finalizer()
