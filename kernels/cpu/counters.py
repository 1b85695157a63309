"""Philox 4x32-10, and the arithmetic from uniform numbers to operations. numba, CPU, serial."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled, inner
from fastpipe.kernels.ops import IDENTITY

__all__ = ["fill_levels"]

Numbers = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Word = Any  # uint64 holding 32 bits

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_ROUNDS = 10


@inner
def _philox(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    for _ in range(_ROUNDS):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _MASK
        c2, c3 = (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _MASK
        k0 = (k0 + np.uint64(0x9E3779B9)) & _MASK
        k1 = (k1 + np.uint64(0xBB67AE85)) & _MASK
    return c0, c1, c2, c3


@inner
def _unit(high: Word, low: Word) -> float:
    upper, lower = np.float64(high >> np.uint64(5)), np.float64(low >> np.uint64(6))
    return (upper * 67108864.0 + lower) / 9007199254740992.0


@compiled
def fill_uniforms(ids: Ints, thirds: Ints, first_key: int, second_key: int, out: Numbers) -> None:
    """Fill out [n, num] from the counters (id low, id high, third, block), two numbers to a block."""
    num = out.shape[1]
    for i in range(ids.size):
        wide = np.uint64(ids[i])
        third = np.uint64(thirds[i]) & _MASK
        for block in range((num + 1) // 2):
            a, b, c, d = _philox(
                wide & _MASK,
                wide >> _SHIFT,
                third,
                np.uint64(block),
                np.uint64(first_key),
                np.uint64(second_key),
            )
            out[i, 2 * block] = _unit(a, b)
            if 2 * block + 1 < num:
                out[i, 2 * block + 1] = _unit(c, d)


@compiled
def fill_row(wide_id: int, third: int, first_key: int, second_key: int, out: Numbers) -> None:
    """`fill_uniforms` for one row: out [num]."""
    wide, word = np.uint64(wide_id), np.uint64(third) & _MASK
    for block in range((out.size + 1) // 2):
        a, b, c, d = _philox(
            wide & _MASK, wide >> _SHIFT, word, np.uint64(block), np.uint64(first_key), np.uint64(second_key)
        )
        out[2 * block] = _unit(a, b)
        if 2 * block + 1 < out.size:
            out[2 * block + 1] = _unit(c, d)


@compiled
def fill_levels(
    numbers: Numbers,
    levels: Numbers,
    codes: npt.NDArray[np.int16],
    targets: Ints,
    rules: Numbers,
    symmetric: npt.NDArray[np.bool_],
    brightness: int,
    severity: float,
    divided_first: bool,
    probability: float,
    ops: npt.NDArray[np.int16],
    values: Numbers,
    matrices: Numbers,
    turned: Numbers,
    rotations: Numbers,
) -> int:
    """One operation per row of numbers [n, 3 or more]: choice, share, side, chance of being applied.

    codes, targets, symmetric: [K]; rules: [K, 8], in the order of level_policies' _Rule. targets: place in
    the matrix, 6 for `values`, 7 for a rotation. rotations: [2 m + 1, 6], the matrices of -m..m degrees;
    other angles go to `turned` [n] (NaN elsewhere). ops, values: [n]; matrices: [n, 6].
    Returns how many went to `turned`.
    """
    count, most, left = codes.size, (rotations.shape[0] - 1) // 2, 0
    for i in range(numbers.shape[0]):
        choice = min(int(numbers[i, 0] * count), count - 1)
        scale, dropped, signed, falling = rules[choice, :4]
        offset, cap, low, side = rules[choice, 4:]
        grown = (levels[i] / 10.0) * scale if divided_first else levels[i] * scale / 10.0
        size = min(np.trunc(grown) if dropped != 0.0 else grown, cap)
        if falling != 0.0 or (signed != 0.0 and numbers[i, 2] < 0.5):
            size = -size
        # Adding 0.0 turns -0.0 into 0.0.
        argument = max(offset + size * side, low) + 0.0
        if symmetric[choice]:
            share, bottom = numbers[i, 1], 1.0 - 0.09 * severity
            if numbers[i, 2] < 0.5:
                argument = 1.0 + (severity - 1.0) * share
            else:
                argument = bottom + (1.0 - bottom) * share
            if choice == brightness and argument > 1.0:
                argument = 0.75 * argument
        applied = probability >= 1.0 or numbers[i, 3] <= probability
        target = targets[choice]
        ops[i] = codes[choice] if applied else IDENTITY
        values[i], turned[i] = 0.0, np.nan
        for place in range(6):
            matrices[i, place] = 1.0 if place in (0, 4) else 0.0
        if not applied:
            continue
        if target == 6:
            values[i] = argument
        elif target == 7 and np.trunc(argument) == argument and abs(argument) <= most:
            for place in range(6):
                matrices[i, place] = rotations[int(argument) + most, place]
        elif target == 7:
            turned[i] = argument
            left += 1
        else:
            matrices[i, target] = argument
    return left
