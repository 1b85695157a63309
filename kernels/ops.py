"""The operations as a table: name, value, and the way the pixels are made. The codes are part of the API.

A code is the place in the table. Everything that needs the kind of an operation (checks, plans, kernels, the
engines' self-check) reads it from here. The values are tuples and whole numbers, constants to numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["INTERPOLATIONS", "OPERATIONS", "OPS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation on the pixels of an image.

    way: a "table" of 256 levels per channel, a "blend" with another image made of it, or a "warp".
    value: "" if it does not read `value`, "factor" for float32, "threshold" to compare a level with, or
    "whole" for a whole number in low..high. example: a value for comparing engines.
    counted: its table needs the image's statistics.
    """

    name: str
    way: Literal["table", "blend", "warp"] = "table"
    value: Literal["", "factor", "threshold", "whole"] = ""
    low: int = 0
    high: int = 0
    example: float = 1.37
    counted: bool = False


OPERATIONS: tuple[Operation, ...] = (
    Operation(name="identity"),
    Operation(name="autocontrast", counted=True),
    Operation(name="equalize", counted=True),
    Operation(name="posterize", value="whole", high=8, example=3.0),
    Operation(name="solarize", value="threshold", example=99.5),
    Operation(name="solarize_add", value="whole", low=-255, high=255, example=40.0),
    Operation(name="invert"),
    Operation(name="brightness", value="factor"),
    Operation(name="color", way="blend", value="factor"),
    Operation(name="contrast", value="factor", counted=True),
    Operation(name="sharpness", way="blend", value="factor"),
    Operation(name="affine", way="warp"),
)

OPS: dict[str, int] = {operation.name: code for code, operation in enumerate(OPERATIONS)}
"""Name to code. What `value` means: bits kept, 0..8 (posterize); threshold (solarize); whole number added
below level 128 (solarize_add); factor, 1 for no change (brightness, color, contrast, sharpness)."""

IDENTITY = OPS["identity"]
AUTOCONTRAST = OPS["autocontrast"]
EQUALIZE = OPS["equalize"]
POSTERIZE = OPS["posterize"]
SOLARIZE = OPS["solarize"]
SOLARIZE_ADD = OPS["solarize_add"]
INVERT = OPS["invert"]
BRIGHTNESS = OPS["brightness"]
COLOR = OPS["color"]
CONTRAST = OPS["contrast"]
SHARPNESS = OPS["sharpness"]
AFFINE = OPS["affine"]

VALUE_OPS = tuple(code for code, one in enumerate(OPERATIONS) if one.value)
"""Codes of the operations that read `value`."""

WHOLE_OPS = tuple(code for code, one in enumerate(OPERATIONS) if one.value in ("threshold", "whole"))
"""Those whose `value` may be a whole number: a level is below a threshold if it is below its ceiling."""

COUNTED = tuple(code for code, one in enumerate(OPERATIONS) if one.counted)
"""Those that need statistics of the image."""

BLENDS = tuple(code for code, one in enumerate(OPERATIONS) if one.way == "blend")
"""Those that blend each pixel with another one."""

INTERPOLATIONS: dict[str, int] = {"nearest": 0, "bilinear": 1}
"""Name to code of the affine sampling rule."""


def whole_ranges() -> tuple[tuple[str, int, int, int], ...]:
    """Name, code, lowest and highest value of each operation that takes whole numbers."""
    return tuple(
        (one.name, code, one.low, one.high) for code, one in enumerate(OPERATIONS) if one.value == "whole"
    )
