"""What every command of `fastpipe-profile` does alike: its console, errors, Ctrl-C, readers that go away."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rich.console import Console

from fastpipe.errors import FastpipeError
from fastpipe.profiling.files_out import exit_status

__all__ = ["ended", "report_console"]


class _Report(Console):
    """Prints into nothing once its reader has gone (`| head`): the command goes on to its end."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        stream = sys.stderr if self.stderr else sys.stdout
        # Python flushes the stream when it leaves, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def report_console(narrowest: int, *, stderr: bool = False) -> Console:
    """As wide as the terminal, or as COLUMNS says; into a file or a pipe at least `narrowest` without it."""
    console = _Report(stderr=stderr, soft_wrap=False)
    asked = os.environ.get("COLUMNS", "")
    if console.is_terminal or (asked.isdigit() and int(asked) > 0) or console.width >= narrowest:
        return console
    return _Report(stderr=stderr, soft_wrap=False, width=narrowest)


def ended(work: Callable[[], int]) -> int:
    """The exit status of `work`: its own, that of its error, which is one line, or 130 on Ctrl-C."""
    try:
        return work()
    except FastpipeError as error:
        return exit_status(error)
    except KeyboardInterrupt:
        sys.stderr.write("fastpipe-profile: interrupted\n")
        return 130
