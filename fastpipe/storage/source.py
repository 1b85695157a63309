"""Turns the value of `--data` into folders: "demo", a folder, or a name."""

from __future__ import annotations

import difflib
import logging
import os

from fastpipe.errors import ArgumentError
from fastpipe.storage.demo import demo_splits
from fastpipe.storage.named import NAMED, canonical_name, named_splits
from fastpipe.storage.splits import Splits, find_splits

__all__ = ["resolve"]

_log = logging.getLogger("fastpipe.storage")


def resolve(data: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> Splits:
    """Return the splits that `data` means: "demo", a name of torchvision.datasets, or a folder.

    A name wins over a folder of the same name in the current directory ("./demo" is the folder).
    Raises ArgumentError, with the nearest name, for any other value; DataError as the three do.
    """
    if isinstance(data, os.PathLike):
        return find_splits(data)
    name = canonical_name(data)
    if name == "demo" or name in NAMED:
        if os.path.isdir(data):
            _log.warning("data=%r is a known name; for the folder of that name write %r", data, f"./{data}")
        return demo_splits(cache_dir) if name == "demo" else named_splits(name, cache_dir)
    if os.path.exists(os.path.expanduser(data)) or os.sep in data or data.startswith(("~", ".")):
        return find_splits(data)
    names = ["demo", *NAMED]
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ArgumentError(
        f"data must be a folder with train/ and val/, or one of {', '.join(names)}. Found: {data!r}, "
        f"which is neither a folder here nor a known name.{hint}"
    )
