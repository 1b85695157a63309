"""Reads attributes of transform objects: returns values that fit in our form, else raises NotKnown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from enum import Enum
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch

from fastpipe.transforms.specs import FloatName, Interpolation
from fastpipe.types import Size

__all__ = ["describe"]

_MAX_CHARS = 80
_PILLOW_CODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_INTERPOLATIONS: dict[str, Interpolation] = {
    "nearest": "nearest",
    # Pillow has only one nearest rule; torchvision maps both names to it.
    "nearest-exact": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "box": "box",
    "hamming": "hamming",
    "lanczos": "lanczos",
}
_FLOATS: dict[torch.dtype, FloatName] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


Form = Literal["pil", "uint8", "float", "other"]


class NotKnown(Exception):
    """A step, or this setting of it, has no spec. The message gives the reason in words."""


def describe(step: Any) -> str:
    """The step on one line of at most 80 characters, without memory addresses."""
    if inspect.isroutine(step):
        text = str(getattr(step, "__qualname__", type(step).__name__))
    elif getattr(type(step), "__repr__", None) is object.__repr__:
        text = f"{type(step).__qualname__}()"
    else:
        text = " ".join(repr(step).split())
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", text)
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 3] + "..."


def check_plain(step: Any) -> None:
    """Raise NotKnown for an instance that does not do what its class does: hooks, or overridden methods."""
    attributes = getattr(step, "__dict__", {})
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    if any(attributes.get(name) for name in hooks):
        raise NotKnown("it has forward hooks")
    for name in attributes:
        if callable(getattr(type(step), name, None)):
            raise NotKnown(f"its method {name!r} is overridden on the instance")


def read_numbers(value: Any, name: str) -> tuple[float, ...]:
    """A number, a sequence of numbers, or a 0- or 1-dimensional array as a tuple of floats."""
    if isinstance(value, torch.Tensor | np.ndarray):
        value = value.tolist()
    if isinstance(value, Real):
        return (float(value),)
    if isinstance(value, Sequence) and value and all(isinstance(number, Real) for number in value):
        return tuple(float(number) for number in value)
    raise NotKnown(f"{name}={value!r} is not a number or a sequence of numbers")


def read_pair(value: Any, name: str) -> tuple[float, float]:
    """Two numbers."""
    numbers = read_numbers(value, name)
    if len(numbers) != 2:
        raise NotKnown(f"{name}={value!r} is not a pair")
    return numbers[0], numbers[1]


def read_size(value: Any, name: str = "size") -> Size:
    """(height, width) in pixels: torchvision takes an int or a sequence of one number for a square."""
    numbers = read_numbers(value, name)
    if len(numbers) > 2 or not all(number.is_integer() for number in numbers):
        raise NotKnown(f"{name}={value!r} is not a height and width in whole pixels")
    return int(numbers[0]), int(numbers[-1])


def read_interpolation(value: Any) -> Interpolation:
    """The name of Pillow's filter for an enum, its name, or Pillow's integer."""
    if isinstance(value, int):
        value = _PILLOW_CODES.get(int(value), value)
    name = value.value if isinstance(value, Enum) else value
    if not isinstance(name, str) or name.lower() not in _INTERPOLATIONS:
        raise NotKnown(f"interpolation={value!r} is none of Pillow's")
    return _INTERPOLATIONS[name.lower()]


def read_policy_interpolation(value: Any) -> Literal["nearest", "bilinear"]:
    """One of the two rules that the warps of a policy offer."""
    name = read_interpolation(value)
    if name == "nearest" or name == "bilinear":
        return name
    raise NotKnown(f"its warps interpolate {name}; ours are nearest or bilinear")


def read_fill(value: Any) -> tuple[int, int, int]:
    """RGB levels as torchvision passes them to Pillow: None is black, one number gray, floats truncated."""
    numbers = (0.0,) if value is None else read_numbers(value, "fill")
    levels = tuple(int(number) for number in numbers)
    levels = levels * 3 if len(levels) == 1 else levels
    if len(levels) != 3 or min(levels) < 0 or max(levels) > 255:
        raise NotKnown(f"fill={value!r} is not one or three levels in 0..255")
    return levels[0], levels[1], levels[2]


def float_name(dtype: Any) -> FloatName:
    """The name of a float dtype that the device stage can write."""
    if not isinstance(dtype, torch.dtype) or dtype not in _FLOATS:
        raise NotKnown(f"it converts to {dtype}; the device stage writes float32, float16 or bfloat16")
    return _FLOATS[dtype]
