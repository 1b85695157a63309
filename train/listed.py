"""Files that a list names more than once: what that means for the parts of a run, in sentences.

N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.types import IntArray


def first_places(paths: Sequence[str]) -> IntArray:
    """For each image the place at which its file is listed first, int64 [N]."""
    first: dict[str, int] = {}
    places = (first.setdefault(path, place) for place, path in enumerate(paths))
    return np.fromiter(places, dtype=np.int64, count=len(paths))


def again_words(paths: Sequence[str], labels: npt.NDArray[Any]) -> list[str]:
    """A sentence if files are listed again with another label, as where a row has one of several labels."""
    other = (labels != labels[first_places(paths)]).reshape(len(labels), -1).any(axis=1)
    if not other.any():
        return []
    path = paths[int(np.flatnonzero(other)[0])]
    return [
        f"note: {int(other.sum())} images are listed again with another label, first {path!r}; several "
        "labels of an image belong into one cell, with --table.separator"
    ]


def shared_words(train: Sequence[str], other: Sequence[str], name: str) -> list[str]:
    """A sentence if images of the part `name` are trained on."""
    known = set(train)
    shared = [path for path in other if path in known]
    if not shared:
        return []
    return [f"note: {len(shared)} of {len(other)} {name} images are trained on as well, first {shared[0]!r}"]
