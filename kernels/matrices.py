"""The six coefficients (a, b, c, d, e, f) that Pillow's AFFINE transform takes, for each named warp.

They map an output pixel to its source: the pixel at (x, y) reads (a*x + b*y + c, d*x + e*y + f), x to the
right, y down. So they are the inverse of the visible movement.
"""

from __future__ import annotations

import math

__all__ = ["Matrix", "rotate", "shear_x", "shear_y", "torchvision_affine", "translate_x", "translate_y"]

Matrix = tuple[float, float, float, float, float, float]


def shear_x(shear: float) -> Matrix:
    """Each row is read `shear` pixels further right per row down. torchvision's angle is atan of this."""
    return (1.0, float(shear), 0.0, 0.0, 1.0, 0.0)


def shear_y(shear: float) -> Matrix:
    """Each column is read `shear` pixels further down per column to the right."""
    return (1.0, 0.0, 0.0, float(shear), 1.0, 0.0)


def translate_x(pixels: float) -> Matrix:
    """Read `pixels` further right: the picture moves left. torchvision's `translate` is minus this."""
    return (1.0, 0.0, float(pixels), 0.0, 1.0, 0.0)


def translate_y(pixels: float) -> Matrix:
    """Read `pixels` further down: the picture moves up."""
    return (1.0, 0.0, 0.0, 0.0, 1.0, float(pixels))


def rotate(degrees: float, height: int, width: int) -> Matrix:
    """The matrix of `Image.rotate(degrees)`: counter-clockwise about (width / 2, height / 2), size kept.

    Pillow rounds sine and cosine to 15 decimals, which makes multiples of 90 degrees exact.
    """
    angle = -math.radians(degrees % 360.0)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    minus_sine = round(-math.sin(angle), 15)
    x, y = width / 2, height / 2
    # Pillow adds +0.0 before the centre; it changes no bit of the sum.
    c = cosine * -x + sine * -y + 0.0 + x
    f = minus_sine * -x + cosine * -y + 0.0 + y
    return (cosine, sine, c, minus_sine, cosine, f)


def torchvision_affine(
    angle: float,
    translate: tuple[float, float],
    scale: float,
    shear: tuple[float, float],
    center: tuple[float, float],
) -> Matrix:
    """The matrix that `torchvision.transforms.functional.affine` hands to Pillow for a PIL image.

    angle and shear in degrees, clockwise positive; translate and center as (x, y) in pixels from the upper
    left corner. torchvision's default center is (width / 2, height / 2). `F.rotate` uses `rotate` instead.
    Inverse of T(translate) C(center) R(angle) ShearY ShearX Scale C^-1. Raises ValueError for scale <= 0.
    """
    if not scale > 0.0:
        raise ValueError(f"scale must be above 0. Found: {scale!r}")
    turn, tilt_x, tilt_y = math.radians(angle), math.radians(shear[0]), math.radians(shear[1])
    a = math.cos(turn - tilt_y) / math.cos(tilt_y)
    b = -math.cos(turn - tilt_y) * math.tan(tilt_x) / math.cos(tilt_y) - math.sin(turn)
    c = math.sin(turn - tilt_y) / math.cos(tilt_y)
    d = -math.sin(turn - tilt_y) * math.tan(tilt_x) / math.cos(tilt_y) + math.cos(turn)
    # The determinant is 1, so the inverse is the adjugate; then back by the translation and the center.
    xx, xy, yx, yy = d / scale, -b / scale, -c / scale, a / scale
    back_x, back_y = -center[0] - translate[0], -center[1] - translate[1]
    shift_x = 0.0 / scale + (xx * back_x + xy * back_y) + center[0]
    shift_y = 0.0 / scale + (yx * back_x + yy * back_y) + center[1]
    return (xx, xy, shift_x, yx, yy, shift_y)
