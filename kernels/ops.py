"""The operations by name and code, and which of them read `value`. The codes are part of the API."""

from __future__ import annotations

__all__ = ["INTERPOLATIONS", "OPS", "VALUE_OPS"]

IDENTITY = 0
AUTOCONTRAST = 1
EQUALIZE = 2
POSTERIZE = 3
SOLARIZE = 4
SOLARIZE_ADD = 5
INVERT = 6
BRIGHTNESS = 7
COLOR = 8
CONTRAST = 9
SHARPNESS = 10
AFFINE = 11

OPS: dict[str, int] = {
    "identity": IDENTITY,
    "autocontrast": AUTOCONTRAST,
    "equalize": EQUALIZE,
    "posterize": POSTERIZE,
    "solarize": SOLARIZE,
    "solarize_add": SOLARIZE_ADD,
    "invert": INVERT,
    "brightness": BRIGHTNESS,
    "color": COLOR,
    "contrast": CONTRAST,
    "sharpness": SHARPNESS,
    "affine": AFFINE,
}
"""Name to code. What `value` means: bits kept, 0..8 (posterize); threshold (solarize); whole number added
below level 128 (solarize_add); factor, 1 for no change (brightness, color, contrast, sharpness)."""

VALUE_OPS = frozenset({POSTERIZE, SOLARIZE, SOLARIZE_ADD, BRIGHTNESS, COLOR, CONTRAST, SHARPNESS})
"""Codes of the operations that read `value`."""

INTERPOLATIONS: dict[str, int] = {"nearest": 0, "bilinear": 1}
"""Name to code of the affine sampling rule."""
