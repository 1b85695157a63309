"""Makes a script that --stop ended exit within a known time, whatever it left running."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Final

GRACE = 30.0
"""Seconds for the leftovers of a stopped script; torch itself gives each DataLoader worker 5 s."""

_MOST_FRAMES = 8
_DYING_S: Final = 1.0  # for a process to end by SIGTERM, then by SIGKILL


class Ending:
    """Watches from another thread how a stopped script ends.

    While the script unwinds (its `finally` may save a checkpoint) nothing is cut off; a message says where it
    is. Afterwards, before it exits, Python joins the non-daemon threads and then the processes. Whatever has
    not ended after GRACE seconds is ended, and the script's status is kept.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._status = 0
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """The script is about to be stopped by an exception in this thread."""
        watched = threading.get_ident()
        self._thread = threading.Thread(
            target=self._run, args=(watched,), name="fastpipe-profile", daemon=True
        )
        self._thread.start()

    def over(self, status: int) -> None:
        """The script is over; Python's own exit follows. Nothing happens without `watch`."""
        self._status = status
        self._over.set()

    def _run(self, watched: int) -> None:
        if not self._over.wait(GRACE):
            _say(f"--stop was raised {GRACE:g} s ago and the script still runs, here:\n{_stack_of(watched)}")
            self._over.wait()
        # Gone with the process, if that ends in time.
        threading.Event().wait(GRACE)
        children = multiprocessing.active_children()
        names = [thread.name for thread in threading.enumerate() if _holds_up(thread)]
        names += [child.name for child in children if not child.daemon]
        _say(
            f"{GRACE:g} s after --stop the script's own {', '.join(names) or 'functions of atexit'} "
            "still run; they are ended"
        )
        _end(children)
        sys.stdout.flush()
        os._exit(self._status)


def _end(children: Sequence[BaseProcess]) -> None:
    """They are gone when this process is gone, even those that ignore SIGTERM."""
    for end in (BaseProcess.terminate, BaseProcess.kill):
        for child in children:
            end(child)
        deadline_s = time.monotonic() + _DYING_S
        for child in children:
            child.join(max(0.0, deadline_s - time.monotonic()))


def _holds_up(thread: threading.Thread) -> bool:
    """Whether Python waits for it on exit."""
    return not thread.daemon and thread is not threading.main_thread()


def _stack_of(ident: int) -> str:
    frame = sys._current_frames().get(ident)
    return "" if frame is None else "".join(traceback.format_stack(frame)[-_MOST_FRAMES:])


def _say(text: str) -> None:
    sys.stderr.write(f"fastpipe-profile: {text.rstrip()}\n")
    sys.stderr.flush()
