"""Imported before all else of fastpipe: `fastpipe-train` hears signals before torch is there.

That import takes seconds, and a signal in them must end the program with the status that it has later.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fastpipe.system.stop_signals import listen_from_now_on, obey_parent_alone, stop_early

__all__ = ["is_trainer", "program"]


def program(orig_argv: Sequence[str]) -> str:
    """What Python was started with: "-m NAME", "-c CODE" or a path; "" for none."""
    rest = iter(orig_argv[1:])
    for arg in rest:
        if arg in ("-m", "-c"):
            return f"{arg} {next(rest, '')}"
        if arg in ("-W", "-X"):
            next(rest, None)
        elif not arg.startswith("-"):
            return arg
    return ""


def is_trainer(orig_argv: Sequence[str]) -> bool:
    """Whether Python was started as `fastpipe-train` or with -m fastpipe.train."""
    started = program(orig_argv)
    return started == "-m fastpipe.train" or Path(started).name == "fastpipe-train"


if is_trainer(sys.orig_argv):
    listen_from_now_on(stop_early)
elif program(sys.orig_argv).startswith("-c from multiprocessing."):  # a worker that was not forked
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if signal.SIGTERM in blocked:  # as a trainer leaves it to its workers
        obey_parent_alone()
