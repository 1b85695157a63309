"""Random numbers as pure functions of a key and counters. They have no state and no seed."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.checks import describe

__all__ = ["counter_row", "counter_uniforms"]

Ints = npt.NDArray[np.int64]


@cache
def _compiled() -> ModuleType:
    """The compiled functions, which import numba. An import statement in each call would cost it 0.6 us."""
    from fastpipe.kernels.cpu import counters as cpu_counters

    return cpu_counters


def counter_uniforms(ids: Ints, thirds: Ints, key: tuple[int, int], num: int) -> npt.NDArray[np.float64]:
    """float64 [n, num] in [0, 1) with 53 random bits, by Philox 4x32-10 of (id low, id high, third, block).

    ids, thirds: int64 [n]. key: two 32-bit words. A row begins with the same numbers for every `num`.
    Raises ValueError for another shape.
    """
    if ids.ndim != 1 or ids.shape != thirds.shape:
        raise ValueError(
            f"ids and thirds must be int64 [n] alike. Found: {describe(ids)} and {describe(thirds)}"
        )
    out = np.empty((len(ids), num), np.float64)
    _compiled().fill_uniforms(
        np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(thirds, np.int64), key[0], key[1], out
    )
    return out


def counter_row(wide_id: int, third: int, key: tuple[int, int], num: int) -> npt.NDArray[np.float64]:
    """float64 [num], the only row of `counter_uniforms` for one id, without the arrays around it."""
    out = np.empty(num, np.float64)
    _compiled().fill_row(wide_id, third, key[0], key[1], out)
    return out
