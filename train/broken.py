"""Images that cannot be decoded: how the trainer counts and reports them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from fastpipe.errors import SampleError
from fastpipe.train.distributed import current_shard, summed

Counts = Mapping[str, int]
"""The number of samples by treatment."""

_KINDS = ("skipped", "replaced")
# The names of the loader's arguments in its messages, and the options here.
_REMEDY = re.compile(r"""pass on_error=['"]skip['"] or on_error=['"]replace['"] to the DataLoader""")
# The same of `from_csv`, whose columns are keys here.
_AS_CLASSES = re.compile(r"pass labels='classes'( \(each different text is a class\))?( or labels='text')?")
_COLUMN = re.compile(r"^(path|label)(?= must name a column)")
# Of `fastpipe.batch.mend`, which has tried to replace it.
_NOT_REPLACED = "replacement"
# Further arguments of `from_csv` that no option has.
_NO_OPTION = (
    (", name another folder with root=, or pass check_files=False to leave them to on_error", ""),
    ("Pass encoding=: files of spreadsheets are often 'cp1252' or 'utf-16'", "Save it as UTF-8 or UTF-16"),
    ("Pass encoding=", "Save it as UTF-8"),
    ("Correct the labels, or name all classes with classes=", "Correct the labels"),
)
_LIST_REMEDY = "Name another file, or pass quarantine=False"


def broken_counts(loader: Any) -> Counts:
    """What this rank's `loader` has skipped and replaced; zeros for a loader that does not count."""
    found: Counts = getattr(loader, "incident_counts", dict)()
    return {kind: int(found.get(kind, 0)) for kind in _KINDS}


def added(*counts: Counts) -> Counts:
    """The counts together."""
    return {kind: sum(one.get(kind, 0) for one in counts) for kind in _KINDS}


def summed_counts(after: Counts, before: Counts) -> Counts:
    """The increase from `before` to `after` over all ranks; all of them call it together."""
    numbers = torch.tensor([after[kind] - before[kind] for kind in _KINDS], dtype=torch.int64)
    return dict(zip(_KINDS, summed(numbers).tolist(), strict=True))


def broken_words(broken: Mapping[str, Counts]) -> Iterator[str]:
    """The counts of each split in words; empty if all are zero."""
    for split, counts in broken.items():
        for kind in _KINDS:
            if number := counts.get(kind, 0):
                yield f"{number} {'sample' if number == 1 else 'samples'} {kind} in {split}"


def without_remedy(text: str) -> str:
    """A message about a broken sample without the advice to skip or to replace it."""
    return re.sub(rf",? or {_REMEDY.pattern}", "", text)


class InOptions(logging.Filter):
    """For the loader's logger: a message about a skipped or replaced sample needs no advice to do so."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the text, keep the record."""
        text = record.getMessage()
        shorter = without_remedy(text)
        if shorter != text:
            record.msg, record.args = shorter, ()
        return True


IN_OPTIONS = InOptions()
"""One, so that it is not added twice."""


def in_options(error: BaseException) -> str:
    """The message of an error, with the options of this command instead of the loader's arguments."""
    text = str(error)
    tried = isinstance(error, SampleError) and _NOT_REPLACED in text
    several = current_shard().world_size > 1  # where skip is refused
    ways = "--on-error replace" if several else "--on-error skip or --on-error replace"
    if tried:  # so the advice to replace it helps nobody
        text = without_remedy(text)
        ways = "" if several else "--on-error skip"
    text = _REMEDY.sub(f"give {ways}", text)
    text = text.replace("max_bad=", "--max-bad ").replace("or raise max_bad", "or give a larger --max-bad")
    text = _COLUMN.sub(r"--table.\1", _AS_CLASSES.sub("give --task classes", text))
    for argument, instead in _NO_OPTION:
        text = text.replace(argument, instead)
    text = text.replace(_LIST_REMEDY, "Make it readable, or delete it")
    if isinstance(error, SampleError) and "--on-error" not in text:
        text = text.rstrip(". ") + (f". Or give {ways}" if ways else ". Repair such images, or remove them")
    return text
