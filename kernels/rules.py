"""The per-pixel rules, one plain function each: Pillow's arithmetic, and nothing about loops or memory.

Nothing here is decorated. The CPU modules compile these with `numba.njit`; they use no allocation, no
exceptions, no Python objects and not each other, so `numba.cuda.jit(device=True)` can compile them too.
Coordinates are float64 on both, as in Pillow. Called from plain Python, they give the same numbers.

Exactness depends on the order of the operations and on no fused multiply-add: compile without fastmath.
Formulas: Pillow 13.0 (src/libImaging/{Blend,Convert,Filter,Geometry}.c, ImageOps.py, ImageEnhance.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Whole = int | np.integer[Any]
"""A whole number, of Python's or any of numba's types."""

PRECISION = 22
"""Bits after the point of a weight."""

_ZERO = np.float32(0.0)
_TOP = np.float32(255.0)
_HALF = np.float32(0.5)
_THIRTEENTH = np.float32(1.0 / 13.0)


def gray(red: Whole, green: Whole, blue: Whole) -> Whole:
    """Luma 0..255 (ITU-R 601 weights in 16-bit fixed point), as `convert("L")`."""
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def blend(degenerate: np.float32, level: np.float32, factor: np.float32) -> np.uint8:
    """`level` moved away from `degenerate` by `factor`, clipped to 0..255 and truncated, as `Image.blend`.

    All three are float32. Pillow truncates and does not round.
    """
    mixed = degenerate + factor * (level - degenerate)
    mixed = mixed if mixed > _ZERO else _ZERO
    mixed = mixed if mixed < _TOP else _TOP
    return np.uint8(mixed)


def smooth(total: np.float32) -> np.float32:
    """The SMOOTH filter's level from the sum of the 3x3 neighbourhood plus 4 x centre (weights sum to 13).

    A sum is at least 1/26 away from the next half, a thousand times float32's error, so this is exact.
    """
    return np.float32(np.int32(total * _THIRTEENTH + _HALF))


def rounded_mean(total: int, count: int) -> int:
    """The mean rounded half up in integers: ImageEnhance.Contrast's `int(mean + 0.5)`."""
    return (2 * total + count) // (2 * count)


def posterize_level(level: int, bits: int) -> int:
    """`level` with its lowest 8 - `bits` bits cleared."""
    return level & ~((1 << (8 - bits)) - 1)


def solarize_level(level: int, threshold: float) -> int:
    """255 - `level` if `level` >= `threshold`, else `level`."""
    return level if level < threshold else 255 - level


def solarize_add_level(level: int, addend: int) -> int:
    """`level` + `addend` clipped to 0..255 below 128, else `level` (AutoAugment's SolarizeAdd)."""
    return min(max(level + addend, 0), 255) if level < 128 else level


def invert_level(level: int) -> int:
    """255 - `level`."""
    return 255 - level


def autocontrast_level(level: int, low: int, high: int) -> int:
    """`level` stretched so that low..high becomes 0..255: float64, truncated. Identity if high <= low."""
    if high <= low:
        return level
    scale = 255.0 / (high - low)
    return min(max(int(level * scale + -low * scale), 0), 255)


def equalize_level(below: int, step: int) -> int:
    """The equalised level, where `below` pixels are darker and `step` > 0 pixels make one level."""
    return min((step // 2 + below) // step, 255)


def affine_coordinate(a: float, b: float, c: float, x: float, y: float) -> float:
    """One source coordinate a*x + b*y + c, added from left to right as Pillow does."""
    return a * x + b * y + c


def lerp(start: float, end: float, weight: float) -> float:
    """The point at `weight` 0..1 between `start` and `end`, in Pillow's form."""
    return start + (end - start) * weight


def fixed_point(value: float) -> int:
    """`value` in 16.16 fixed point, rounded half up."""
    return math.floor(value * 65536.0 + 0.5)
