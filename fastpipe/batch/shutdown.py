"""Stops the worker processes of torch's iterators that are collected as part of a reference cycle.

A stored exception makes such a cycle (its traceback holds the frame that holds it), and so do many trainers.
The collector then runs the finalizers of torch's queues first, so torch's `__del__` can no longer tell the
workers to stop and waits 5 s for each of them in vain, wherever the collector happened to run.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["end_workers_with"]

_JOIN_S: Final = 5.0  # torch's own patience

# Persistent workers come with the same iterator every epoch.
_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def end_workers_with(iterator: Any) -> None:
    """Tell the workers of torch's `iterator`, of any kind, to stop at its collection, before its `__del__`.

    The finalizer is held from outside, so it is not collected with the iterator; it has no reference to the
    data set or the sampler, which may refer back to the iterator.
    """
    workers = getattr(iterator, "_workers", ())
    if not workers or iterator in _watched:
        return
    _watched.add(iterator)
    queues, results = list(iterator._index_queues), iterator._worker_result_queue
    told = weakref.finalize(
        iterator, _end, os.getpid(), iterator._workers_done_event, queues, list(workers), results
    )
    told.atexit = False  # torch has its own shutdown there


def _end(owner: int, done: Any, queues: Sequence[Any], workers: Sequence[Any], results: Any) -> None:
    if os.getpid() != owner or not any(worker.is_alive() for worker in workers):
        return  # a forked copy, or torch's iterator has stopped them
    done.set()
    for queue in queues:
        queue.put(None)
    for worker in workers:
        worker.join(_JOIN_S)
    del results  # held until now for the thread that pins its batches
