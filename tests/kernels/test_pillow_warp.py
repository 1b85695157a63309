"""Warps against Pillow's transform and rotate, and the matrices against torchvision's on PIL images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from fastpipe import kernels

Pixels = npt.NDArray[np.uint8]

FILL = (124, 7, 255)
RESAMPLING = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
MODES = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}

both = pytest.mark.parametrize("interpolation", RESAMPLING)


def pillow_warp(image: Pixels, matrix: kernels.Matrix, interpolation: str) -> Pixels:
    source = Image.fromarray(image)
    warped = source.transform(
        source.size, Image.Transform.AFFINE, matrix, RESAMPLING[interpolation], fillcolor=FILL
    )
    return np.asarray(warped)


def our_warp(image: Pixels, matrix: kernels.Matrix, interpolation: str) -> Pixels:
    return kernels.apply_op(image, "affine", matrix=matrix, fill=FILL, interpolation=interpolation)


MATRICES: dict[str, kernels.Matrix] = {
    "identity": (1, 0, 0, 0, 1, 0),
    "shear_x": kernels.shear_x(0.3),
    "shear_x back": kernels.shear_x(-0.17),
    "shear_y": kernels.shear_y(0.3),
    "shear_y back": kernels.shear_y(-0.29),
    "translate_x": kernels.translate_x(3),
    "translate_x half": kernels.translate_x(-4.5),
    "translate_x out": kernels.translate_x(1000),
    "translate_y": kernels.translate_y(-2),
    "translate_y part": kernels.translate_y(5.3),
    "shrink": (2.5, 0, -3.1, 0, 1.7, -2.2),
    "grow": (0.3, 0, 1.1, 0, 0.41, 0.7),
    "mirror": (-1, 0, 20, 0, -1, 15),
    "tenth": (0.1, 0, 0, 0, 0.1, 0),
    "flat": (0, 0, 1.5, 0, 0, 0.5),
    "point": (0, 0, -1.5, 0, 0, 0.5),
    "transpose": (0, 1, 0, 1, 0, 0),
    "skew": (0.8, 0.35, -2.0, -0.2, 1.1, 1.5),
    "beyond fixed point": (30000.0, 1.0, -5.0, 1.0, 1.0, 1.0),
    "tiny step": (1e-300, 0.5, 2.0, 1e-9, 0.7, 0.1),
    "huge": (1e9, -1e9, 1e9, 1e9, 1e9, -1e9),
}


@both
@pytest.mark.parametrize("name", MATRICES)
def test_every_matrix_on_every_image(name: str, interpolation: str, odd_images: dict[str, Pixels]) -> None:
    for title, image in odd_images.items():
        ours = our_warp(image, MATRICES[name], interpolation)
        expected = pillow_warp(image, MATRICES[name], interpolation)
        np.testing.assert_array_equal(ours, expected, err_msg=title)


coefficients = st.floats(-2.5, 2.5, allow_subnormal=False)
offsets = st.floats(-40.0, 40.0, allow_subnormal=False)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    matrix=st.tuples(coefficients, coefficients, offsets, coefficients, coefficients, offsets),
    interpolation=st.sampled_from(list(RESAMPLING)),
    seed=st.integers(0, 1000),
)
def test_any_matrix(size: tuple[int, int], matrix: kernels.Matrix, interpolation: str, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        our_warp(image, matrix, interpolation), pillow_warp(image, matrix, interpolation)
    )


@both
@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90, 360, 45, 30, -29.7, 0.001, 3.3, 725.0])
@pytest.mark.parametrize("shape", [(37, 53), (24, 24), (23, 23), (1, 9), (8, 1), (1, 1)])
def test_rotate_is_images_rotate(degrees: float, shape: tuple[int, int], interpolation: str) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*shape, 3)).astype(np.uint8)
    rotated = Image.fromarray(image).rotate(degrees, RESAMPLING[interpolation], fillcolor=FILL)
    ours = our_warp(image, kernels.rotate(degrees, *shape), interpolation)
    np.testing.assert_array_equal(ours, np.asarray(rotated))


@both
@pytest.mark.parametrize("magnitude", [0.0, 0.03, 0.3, -0.27, 0.99, -0.99])
def test_torchvision_shear(magnitude: float, interpolation: str, odd_images: dict[str, Pixels]) -> None:
    """As RandAugment and TrivialAugmentWide call it: center [0, 0], the angle atan(magnitude)."""
    degrees = math.degrees(math.atan(magnitude))
    for name in ("noise 37x53", "noise 31x17", "noise 1x7"):
        image = odd_images[name]
        for shear in ((degrees, 0.0), (0.0, degrees)):
            expected = F.affine(
                Image.fromarray(image),
                angle=0.0,
                translate=[0, 0],
                scale=1.0,
                shear=list(shear),
                interpolation=MODES[interpolation],
                fill=list(FILL),
                center=[0, 0],
            )
            matrix = kernels.torchvision_affine(0.0, (0, 0), 1.0, shear, (0.0, 0.0))
            ours = our_warp(image, matrix, interpolation)
            np.testing.assert_array_equal(ours, np.asarray(expected))


@both
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    angle=st.floats(-180, 180),
    translate=st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
    scale=st.floats(0.3, 3.0),
    shear=st.tuples(st.floats(-45, 45), st.floats(-45, 45)),
)
def test_torchvision_affine_about_the_centre(
    interpolation: str,
    angle: float,
    translate: tuple[int, int],
    scale: float,
    shear: tuple[float, float],
) -> None:
    image = np.random.default_rng(4).integers(0, 256, (19, 26, 3)).astype(np.uint8)
    expected = F.affine(
        Image.fromarray(image),
        angle=angle,
        translate=list(translate),
        scale=scale,
        shear=list(shear),
        interpolation=MODES[interpolation],
        fill=list(FILL),
    )
    matrix = kernels.torchvision_affine(angle, translate, scale, shear, (26 * 0.5, 19 * 0.5))
    np.testing.assert_array_equal(our_warp(image, matrix, interpolation), np.asarray(expected))


@both
@pytest.mark.parametrize("pixels", [-72, -9, 0, 5, 48])
def test_torchvision_translate_and_rotate(
    pixels: int, interpolation: str, odd_images: dict[str, Pixels]
) -> None:
    image = odd_images["ramp 37x53"]
    source = Image.fromarray(image)
    mode = MODES[interpolation]
    moved = F.affine(source, 0.0, [pixels, 0], 1.0, [0.0, 0.0], mode, list(FILL))
    np.testing.assert_array_equal(
        our_warp(image, kernels.translate_x(-pixels), interpolation), np.asarray(moved)
    )
    moved = F.affine(source, 0.0, [0, pixels], 1.0, [0.0, 0.0], mode, list(FILL))
    np.testing.assert_array_equal(
        our_warp(image, kernels.translate_y(-pixels), interpolation), np.asarray(moved)
    )
    turned = F.rotate(source, float(pixels), mode, fill=list(FILL))
    np.testing.assert_array_equal(
        our_warp(image, kernels.rotate(pixels, 37, 53), interpolation), np.asarray(turned)
    )


@pytest.mark.parametrize(
    ("op", "value", "theirs"),
    [
        ("posterize", 4, lambda im: F.posterize(im, 4)),
        ("solarize", 128.0, lambda im: F.solarize(im, 128.0)),
        ("solarize", 0.0, lambda im: F.solarize(im, 0.0)),
        ("brightness", 1.27, lambda im: F.adjust_brightness(im, 1.27)),
        ("color", 0.1, lambda im: F.adjust_saturation(im, 0.1)),
        ("contrast", 1.99, lambda im: F.adjust_contrast(im, 1.99)),
        ("sharpness", 0.73, lambda im: F.adjust_sharpness(im, 0.73)),
        ("autocontrast", 0.0, F.autocontrast),
        ("equalize", 0.0, F.equalize),
        ("invert", 0.0, F.invert),
    ],
)
def test_torchvisions_own_names_for_the_operations(
    op: str, value: float, theirs: object, odd_images: dict[str, Pixels]
) -> None:
    assert callable(theirs)
    image = odd_images["dim 37x53"]
    np.testing.assert_array_equal(
        kernels.apply_op(image, op, value), np.asarray(theirs(Image.fromarray(image)))
    )


def test_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"scale must be above 0\. Found: 0"):
        kernels.torchvision_affine(0, (0, 0), 0, (0, 0), (0, 0))
