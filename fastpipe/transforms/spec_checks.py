"""Checks shared by several specs. Each raises ArgumentError: the name, what is allowed, what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastpipe.errors import ArgumentError


def is_whole(value: object) -> bool:
    """Whether the value is an int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_probability(name: str, value: float) -> None:
    """A number in [0, 1]; NaN is refused."""
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(f"{name} must be a probability in [0, 1]. Found: {value!r}")


def check_positive(name: str, value: float) -> None:
    """A finite number above 0."""
    if not (value > 0.0 and math.isfinite(value)):
        raise ArgumentError(f"{name} must be a finite number above 0. Found: {value!r}")


def check_at_least(name: str, value: float, least: int) -> None:
    """An integer of at least `least`."""
    if not is_whole(value) or value < least:
        raise ArgumentError(f"{name} must be >= {least}, an integer. Found: {value!r}")


def check_channels(name: str, values: Sequence[float]) -> None:
    """One finite number per channel."""
    if len(values) != 3:
        raise ArgumentError(f"{name} must have 3 channels. Found: {values!r}")
    if not all(math.isfinite(value) for value in values):
        raise ArgumentError(f"{name} must be finite numbers. Found: {values!r}")


def check_flag(name: str, value: object) -> None:
    """True or False, and nothing that merely equals one of them."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False. Found: {value!r}")


def check_fill(fill: Sequence[int]) -> None:
    """An RGB colour."""
    if len(fill) != 3 or not all(is_whole(level) and 0 <= level <= 255 for level in fill):
        raise ArgumentError(f"fill must be three levels in 0..255. Found: {fill!r}")
