"""The requests of one epoch as a backend takes them, in any thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Protocol

import torch

from fastpipe.types import Request

__all__ = ["RequestStream", "current_rank"]


def current_rank() -> int:
    """This process's rank in the default process group, or 0 without one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank())
    return 0


class Draws(Protocol):
    """What makes requests: a `Drawer`, or another maker of them for one epoch."""

    @property
    def seed(self) -> int:
        """The key of all draws."""

    @property
    def epoch(self) -> int:
        """From 0."""

    def draw(self) -> Request:
        """The next request; StopIteration at the end."""


class RequestStream:
    """Iterates over requests.

    At first each is drawn when it is asked for, which suits the script's thread. After `hand_over` the owner
    of the drawer puts requests in (`feed`), and a backend in another thread takes what is there: `ready`
    tells whether it can do so without waiting. From then on the stream has no reference to the sampler, so a
    thread that holds the stream keeps nothing of the script alive.
    """

    def __init__(self, drawer: Draws) -> None:
        self.seed = drawer.seed
        self.epoch = drawer.epoch
        self._drawer: Draws | None = drawer
        self._drawn: deque[Request] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._changed = threading.Condition()

    def __iter__(self) -> RequestStream:
        return self

    def __next__(self) -> Request:
        if self.fed:
            if not self.wait():
                raise StopIteration
        elif not self._drawn and self._drawer is not None:
            return self._drawer.draw()
        with self._changed:
            return self._drawn.popleft()

    @property
    def fed(self) -> bool:
        """Whether requests are put in from another thread."""
        return self._drawer is None

    def ready(self) -> bool:
        """Whether the next request, or the end, is known without waiting for another thread."""
        return not self.fed or (bool(self._drawn) and not self._closed)

    def wait(self) -> bool:
        """Wait until there is a request (True), or no more will come (False).

        Raises the sampler's error in its turn.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._drawn or self._ended or self._closed or not self.fed)
            if self._closed:
                return False
            if self._drawn or not self.fed:
                return True
            if self._error is not None:
                raise self._error
            return False

    def hand_over(self) -> None:
        """From now on requests come only by `feed`."""
        self._drawer = None

    def feed(self, drawer: Draws, num: int = 1) -> None:
        """Draw requests in the caller's thread.

        The end of the order and the sampler's error are delivered in their turn.
        """
        for _ in range(num):
            if self._ended:
                return
            request = error = None
            try:
                request = drawer.draw()
            except StopIteration:
                pass
            except Exception as caught:
                error = caught
            with self._changed:
                if request is not None:
                    self._drawn.append(request)
                else:
                    self._ended, self._error = True, error
                self._changed.notify_all()

    def refill(self, requests: Iterable[Request]) -> None:
        """Serve these first, instead of those that were not taken; opens a closed stream."""
        with self._changed:
            self._drawn = deque(requests)
            self._closed = False

    def close(self) -> None:
        """Release any thread that waits for a request."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
