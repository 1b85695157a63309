"""Garbage of this process is none of its workers' business: what a fork copies is not collected there.

A forked worker inherits unreachable cycles, such as an exception whose traceback holds a decoder, and its
collector may destroy them. A decoder with threads of its own (libavif's) waits there for threads that were
not copied, for ever: the epoch hangs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["garbage_stays_here"]


@contextmanager
def garbage_stays_here() -> Iterator[None]:
    """Around the start of worker processes. Everything that exists now is out of their collectors' reach.

    It also spares the pages that a collection there would write to and so copy.
    """
    frozen_by_the_script = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not frozen_by_the_script:  # else what it has frozen would thaw
            gc.unfreeze()
