"""Threads that serve a stream of requests, some batches ahead and in order.

The threads belong to the process and pass from one epoch, or loader, to the next. FFCV's library keeps 11 KiB
for every thread that ever decoded (its pthread keys have no destructor), so new threads per epoch would leak.
Each carries the name of the backend that it works for: "fastpipe-ffcv", "fastpipe-turbo".
"""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar, cast

from fastpipe.batch import RequestStream
from fastpipe.types import Request

S = TypeVar("S")
T = TypeVar("T")
Stop = Callable[[], bool]
# (request, state of the thread, whether to give up) -> batch
Work = Callable[[Request, S, Stop], T]

_POLL_S = 0.5  # how soon a dead thread is noticed
_JOIN_S = 30.0  # a target_transform that hangs must not make the consumer's exit hang too


class _Thread(threading.Thread):
    """Runs one task after another, and waits in `_idle` between them."""

    def __init__(self) -> None:
        super().__init__(name="fastpipe-idle", daemon=True)
        self.tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            self.tasks.get()()

    def give_back(self) -> None:
        """Called at the end of a task: the next one may be put."""
        with _lock:
            self.name = "fastpipe-idle"
            _idle.append(self)


_idle: list[_Thread] = []
_lock = threading.Lock()


def _forget() -> None:
    """Reset in a forked child, which has no threads and may have inherited a locked lock."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _borrow(num: int) -> list[_Thread]:
    """Threads that wait for a task: idle ones first, new ones for the rest."""
    with _lock:
        found = [_idle.pop() for _ in range(min(num, len(_idle)))]
    threads = [thread for thread in found if thread.is_alive()]
    for _ in range(num - len(threads)):
        threads.append(_Thread())
        threads[-1].start()
    return threads


@dataclass(slots=True)
class _Job(Generic[T]):
    """A batch to be made. Without a request: the error of asking for it."""

    request: Request | None = None
    done: threading.Event = field(default_factory=threading.Event)
    result: T | None = None
    error: BaseException | None = None

    def run(self, request: Request, work: Work[S, T], state: S, stop: Stop) -> None:
        try:
            self.result = work(request, state, stop)
        except Exception as error:
            self.error = error
        except BaseException as error:  # raised unchanged, SystemExit would end the consumer silently
            self.error = RuntimeError(f"a decoding thread was ended by {type(error).__name__}")
            self.error.__cause__ = error
        finally:
            self.done.set()


class _Crew(Generic[S, T]):
    """Borrowed threads that take jobs from one queue. They never see `Batches`, so it can be collected."""

    def __init__(self, num: int, work: Work[S, T], make_state: Callable[[], S], name: str) -> None:
        self.jobs: queue.SimpleQueue[_Job[T] | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.threads = _borrow(num)
        self._ended = [threading.Event() for _ in self.threads]
        for thread, ended in zip(self.threads, self._ended, strict=True):
            thread.name = f"fastpipe-{name}"
            thread.tasks.put(partial(self._serve, thread, work, make_state, ended))

    def _serve(
        self, thread: _Thread, work: Work[S, T], make_state: Callable[[], S], ended: threading.Event
    ) -> None:
        try:
            state = make_state()
            while (job := self.jobs.get()) is not None:
                if job.request is not None and not self.stop.is_set():
                    job.run(job.request, work, state, self.stop.is_set)
                del job  # do not keep a delivered batch alive while waiting
        except BaseException as error:  # raised into the thread from outside while it waited
            self.error = error
        finally:
            thread.give_back()
            ended.set()

    def close(self) -> None:
        """Let the threads finish their current image, and give them back."""
        self.stop.set()
        for _ in self.threads:
            self.jobs.put(None)
        deadline = time.monotonic() + _JOIN_S
        for thread, ended in zip(self.threads, self._ended, strict=True):
            if thread is threading.current_thread():  # the collector may run inside a job
                continue
            while thread.is_alive() and not ended.wait(0.1) and time.monotonic() < deadline:
                pass


class Batches(Iterator[T], Generic[S, T]):
    """The results of `work` for each request, in order; the first `depth` are requested at once.

    threads: how many. name: of the backend. make_state: called in each thread, for what it reuses from batch
    to batch. timeout: seconds to wait for one batch, 0 for no limit. From a stream that is fed, whatever is
    there is taken. An error of `work` is raised in its batch's turn, and the next batch follows. An error of
    `requests` is raised in its turn too, but nothing follows: every later call raises it again. The same
    holds for the RuntimeError of a thread that died or of a timeout.
    """

    def __init__(
        self,
        requests: RequestStream,
        work: Work[S, T],
        make_state: Callable[[], S],
        *,
        name: str,
        threads: int,
        depth: int,
        timeout: float = 0,
    ) -> None:
        self._requests = requests
        self._ended = False
        self._timeout = timeout
        self._error: BaseException | None = None
        self._crew: _Crew[S, T] = _Crew(threads, work, make_state, name)
        self._finalizer = weakref.finalize(self, self._crew.close)
        self._pending: deque[_Job[T]] = deque()
        for _ in range(depth):
            if requests.ready():
                self._ask()

    def _ask(self) -> None:
        if self._ended:
            return
        try:
            job: _Job[T] = _Job(next(self._requests))
        except StopIteration:
            self._ended = True
            return
        except Exception as error:
            job = _Job(error=error)
            job.done.set()
            self._ended = True
        self._pending.append(job)
        self._crew.jobs.put(job)

    def __next__(self) -> T:
        if self._error is not None:
            raise self._error
        self._ask_for_what_is_there()
        if not self._pending:
            self._ask()  # a fed stream waits for the script
        if not self._pending or not self._finalizer.alive:
            self.close()
            raise StopIteration
        job = self._pending.popleft()
        self._wait(job)
        if not self._requests.fed:
            self._ask()
        self._ask_for_what_is_there()
        if job.error is not None:
            self._error = job.error if job.request is None else None
            try:
                raise job.error
            finally:
                del job  # its traceback holds this frame
        return cast("T", job.result)

    def _ask_for_what_is_there(self) -> None:
        while self._requests.fed and self._requests.ready() and not self._ended:
            self._ask()

    def _wait(self, job: _Job[T]) -> None:
        began = time.monotonic()
        while not job.done.wait(min(_POLL_S, self._timeout or _POLL_S)):
            alive = all(thread.is_alive() for thread in self._crew.threads)
            if (not alive or self._crew.error is not None) and not job.done.is_set():
                self.close()
                self._error = RuntimeError(
                    "a decoding thread of the DataLoader died, or was lost when this process was forked"
                )
                raise self._error from self._crew.error
            if self._timeout and time.monotonic() - began >= self._timeout:
                self.close()
                self._error = RuntimeError(f"DataLoader timed out after {self._timeout} seconds")
                raise self._error

    @property
    def over(self) -> bool:
        """Whether an error outside any batch has ended the epoch."""
        return self._error is not None

    def close(self) -> None:
        """Give the threads back; prepared batches are dropped."""
        self._finalizer()
        self._pending.clear()
