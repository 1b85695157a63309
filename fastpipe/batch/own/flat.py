"""Long lists of texts, numbers and records of such: copied and compared without a look into each."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

# Nothing inside them can change.
_ATOMS: Final = frozenset(
    {
        *(str, bytes, bool, int, float, complex, type(None), type(Path())),
        *(np.bool_, np.int32, np.int64, np.float32, np.float64, np.str_),
    }
)


def flat_copy(value: Any) -> Any:
    """A copy of a list, dict or set of texts and numbers, or of records of such; None if it holds more.

    Records are tuples, namedtuples and dicts. The copy has dicts of its own and the same texts and numbers,
    so that a comparison with the original takes no time.
    """
    if type(value) not in (list, dict, set):
        return None
    items = value.values() if isinstance(value, dict) else value
    kinds = set(map(type, items))
    if kinds <= _ATOMS or (all(map(_is_tuple, kinds)) and _of_atoms(items)):
        return copy.copy(value)
    if kinds == {dict} and _of_atoms(item.values() for item in items):
        copies = map(dict, items)
        return dict(zip(value, copies, strict=True)) if isinstance(value, dict) else list(copies)
    return None


def _is_tuple(kind: type) -> bool:
    # A subclass of a namedtuple may have attributes of its own.
    return kind is tuple or (issubclass(kind, tuple) and hasattr(kind, "_fields") and not kind.__dictoffset__)


def _of_atoms(records: Iterable[Iterable[Any]]) -> bool:
    return set(map(type, itertools.chain.from_iterable(records))) <= _ATOMS
