"""Commands whose output is cut short: by `| head`, which closes the pipe, or by a disk that is full."""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

__all__ = ["ends_with_its_reader", "printable", "put", "version"]

CLOSED = 128 + signal.SIGPIPE
"""The exit status of a program whose reader has gone, as a shell reports it: 141."""

P = ParamSpec("P")


def ends_with_its_reader(main: Callable[P, int]) -> Callable[P, int]:
    """A command's `main` that ends silently, with status 141, when its output is no longer read.

    Buffered output is written here: at the interpreter's exit nothing could catch the error. If standard
    output cannot be written for another reason, such as a full disk, one line says so; the status is 1.
    """

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            try:
                return main(*args, **kwargs)
            finally:
                # A script that ran in this process may have closed it.
                if sys.stdout is not None and not sys.stdout.closed:
                    put("")
        except BrokenPipeError:
            if not (reader_is_gone(sys.stdout) or reader_is_gone(sys.stderr)):
                raise  # the program's own pipe
            _discard_the_rest()
            return CLOSED
        except _UnwritableError as error:
            _discard_the_rest()
            sys.stderr.write(f"error: standard output cannot be written: {error}\n")
            return 1

    return guarded


def put(text: str) -> None:
    """Write `text` to standard output now, under a `main` as above; what it cannot encode is escaped."""
    if not text.isascii():
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _UnwritableError(error.strerror) from error


def printable(text: str) -> str:
    r"""Text that UTF-8 can hold: bytes of a file name that are not UTF-8 become \xNN."""
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, as JSON may have: no byte of a file name
        return text.encode("utf-8", "backslashreplace").decode()


def version() -> str:
    """The version of this package."""
    return str(sys.modules[__name__.partition(".")[0]].__version__)


class _UnwritableError(Exception):
    """Standard output accepts no more data."""


def reader_is_gone(stream: Any) -> bool:
    """Whether `stream` is a pipe or socket whose reader has gone."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # none, or one in memory
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _discard_the_rest() -> None:
    """Give the interpreter's last flush a place to write to."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is sys.stdout or reader_is_gone(stream):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
