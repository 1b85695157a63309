"""Imported before the rest of fastpipe: commands handle Ctrl-C before torch loads, the trainer more signals.

That import takes seconds, and a signal during it must end the program with the same status as later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from fastpipe.system.stop_signals import exit_status, listen_from_now_on, obey_parent_alone, stop_early

__all__ = ["usual_interrupt"]

_COMMANDS = {
    "fastpipe.train": "fastpipe-train",
    "fastpipe.profiling": "fastpipe-profile",
    "fastpipe.storage.beton.cli": "fastpipe-write",
}


def program(orig_argv: Sequence[str]) -> str:
    """What Python was started with: "-m NAME", "-c CODE" or a path; "" if nothing."""
    rest = iter(orig_argv[1:])
    for arg in rest:
        if arg in ("-m", "-c"):
            return f"{arg} {next(rest, '')}"
        if arg in ("-W", "-X"):
            next(rest, None)
        elif not arg.startswith("-"):
            return arg
    return ""


def command(orig_argv: Sequence[str]) -> str:
    """The fastpipe command that Python was started as, by its name or with -m; "" for anything else."""
    started = program(orig_argv)
    if started.startswith("-m "):
        return _COMMANDS.get(started.removeprefix("-m "), "")
    name = Path(started).name
    return name if name in _COMMANDS.values() else ""


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Write one line and exit: there is nothing yet to undo."""
    with contextlib.suppress(OSError):  # its reader has gone
        os.write(2, f"{command(sys.orig_argv)}: interrupted\n".encode())
    os._exit(exit_status(number))


def usual_interrupt() -> None:
    """Restore Python's own handling of Ctrl-C, once a command is ready to catch it."""
    if signal.getsignal(signal.SIGINT) == _interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _begin() -> None:
    started = command(sys.orig_argv)
    if started == "fastpipe-train":
        listen_from_now_on(stop_early)
    elif started:
        # If it is ignored, as after a shell's `&`, that is intended.
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupted)
    elif program(sys.orig_argv).startswith("-c from multiprocessing."):  # a worker that was not forked
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        if signal.SIGTERM in blocked:  # as the trainer sets it for its workers
            obey_parent_alone()


_begin()
