"""Imported before all else of fastpipe: `fastpipe-train` hears signals before torch is there.

That import takes seconds, and a signal in them must end the program with the status that it has later.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from multiprocessing import parent_process
from pathlib import Path

from fastpipe.stop_signals import listen_from_now_on, obey_parent_alone, stop_early

__all__ = ["is_trainer"]


def is_trainer(argv: Sequence[str], orig_argv: Sequence[str]) -> bool:
    """Whether Python runs the trainer: `fastpipe-train`, or `-m fastpipe.train`, whose argv[0] is -m yet."""
    program = argv[0] if argv else ""
    return Path(program).name == "fastpipe-train" or (program == "-m" and "fastpipe.train" in orig_argv)


if parent_process() is None:
    if is_trainer(sys.argv, sys.orig_argv):
        listen_from_now_on(stop_early)
elif signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
    obey_parent_alone()  # a worker that was spawned, and not forked, by a trainer
