"""The first half of the trial: the data set with its own pipelines, to see whether it keeps what they return.

A cache outside the copy (of a class, of a module) then holds images that are the script's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from fastpipe.batch.order import length
from fastpipe.batch.own.isolated import Followed, Refused, check_changes, marks_of, words
from fastpipe.batch.own.results import KEPT
from fastpipe.batch.own.twin import datasets_in
from fastpipe.broken import is_broken_file

_TRIED: Final = 16  # few broken files lie in a row at the beginning of a data set


def _references(followed: Followed) -> int:
    result = followed.result
    return sys.getrefcount(result)


def _fresh(*given: Any) -> Any:
    return object()


def _baseline() -> int:
    """The references to a result that nobody keeps: interpreters differ in what a local variable counts."""
    followed = Followed(_fresh)
    followed()
    return _references(followed)


_OURS: Final = _baseline()


def rehearse(twin: Any, followed: Sequence[Followed]) -> int:
    """Make a readable sample twice. Returns its id.

    Raises Refused if `__getitem__` changes the data set, does not call a pipeline each time, or keeps what
    one returned.
    """
    twins = datasets_in(twin)
    before = marks_of(twins)
    sample_id = _first_readable(twin)
    _check_kept(followed)
    opened = marks_of(twins)
    check_changes(before, opened, opening=True)
    calls = [pipeline.num for pipeline in followed]
    try:
        twin[sample_id]
    except Exception as error:
        raise Refused(f"its sample {sample_id} raised {words(error)} when it was made again") from error
    _check_kept(followed)
    check_changes(opened, marks_of(twins), opening=False)
    if any(calls) and calls == [pipeline.num for pipeline in followed]:
        raise Refused("it does not call its transform when a sample is made again")
    return sample_id


def _first_readable(twin: Any) -> int:
    """The first sample whose file can be read. Its error is one in its own batch's turn."""
    for sample_id in range(min(_TRIED, length(twin, _TRIED))):
        try:
            twin[sample_id]
        except Exception as error:
            if is_broken_file(error):
                continue
            raise Refused(f"its sample {sample_id} raised {words(error)}") from error
        return sample_id
    raise Refused(f"none of its first {_TRIED} samples can be read")


def _check_kept(followed: Sequence[Followed]) -> None:
    if any(pipeline.num and _references(pipeline) > _OURS for pipeline in followed):
        raise Refused(f"it {KEPT}")
