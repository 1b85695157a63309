"""Keeps workers from collecting garbage of this process that a fork copied.

A forked worker inherits unreachable cycles, such as an exception whose traceback holds a decoder, and its
collector may destroy them. A decoder with its own threads (libavif's) then waits forever for threads
that were not copied: the epoch hangs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["garbage_stays_here"]


@contextmanager
def garbage_stays_here() -> Iterator[None]:
    """Use it around the start of worker processes: their collectors then ignore everything that exists now.

    It also saves the pages that a collection there would write to and thereby copy.
    """
    frozen_by_the_script = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not frozen_by_the_script:  # else objects that the script froze would thaw
            gc.unfreeze()
