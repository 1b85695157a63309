"""Every operation against Pillow: the bytes must be equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance, ImageOps

from fastpipe import kernels

Pixels = npt.NDArray[np.uint8]

FACTORS = [-0.5, 0.0, 0.05, 0.1, 0.37, 0.5, 0.95, 1.0, 1.0000001, 1.05, 1.3, 1.9, 2.7, 40.0]


def _solarize_add(image: Image.Image, addend: float) -> Image.Image:
    """The table of AutoAugment's SolarizeAdd, through Pillow's own `point`."""
    return image.point([level + int(addend) if level < 128 else level for level in range(256)] * 3)


PILLOW: dict[str, tuple[Callable[[Image.Image, float], Image.Image], list[float]]] = {
    "identity": (lambda im, v: im, [0.0]),
    "autocontrast": (lambda im, v: ImageOps.autocontrast(im), [0.0]),
    "equalize": (lambda im, v: ImageOps.equalize(im), [0.0]),
    "invert": (lambda im, v: ImageOps.invert(im), [0.0]),
    "posterize": (lambda im, v: ImageOps.posterize(im, int(v)), [1, 2, 3, 4, 5, 6, 7, 8]),
    "solarize": (lambda im, v: ImageOps.solarize(im, v), [-1, 0, 1, 64, 100.5, 128, 254.9, 255, 256, 300]),  # type: ignore[arg-type]
    "solarize_add": (_solarize_add, [-255, -30, 0, 1, 55, 110, 127, 128, 255]),
    "brightness": (lambda im, v: ImageEnhance.Brightness(im).enhance(v), FACTORS),
    "color": (lambda im, v: ImageEnhance.Color(im).enhance(v), FACTORS),
    "contrast": (lambda im, v: ImageEnhance.Contrast(im).enhance(v), FACTORS),
    "sharpness": (lambda im, v: ImageEnhance.Sharpness(im).enhance(v), FACTORS),
}


def pillow_op(image: Pixels, op: str, value: float) -> Pixels:
    return np.asarray(PILLOW[op][0](Image.fromarray(image), value))


@pytest.mark.parametrize("op", PILLOW)
def test_every_value_on_every_image(op: str, odd_images: dict[str, Pixels]) -> None:
    for name, image in odd_images.items():
        for value in PILLOW[op][1]:
            ours = kernels.apply_op(image, op, value)
            np.testing.assert_array_equal(ours, pillow_op(image, op, value), err_msg=f"{op} {value} {name}")


def test_every_operation_but_affine_is_compared() -> None:
    assert set(PILLOW) == set(kernels.OPS) - {"affine"}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3))),
    op=st.sampled_from(["brightness", "color", "contrast", "sharpness"]),
    factor=st.floats(-4.0, 4.0),
)
def test_any_factor_on_any_image(image: Pixels, op: str, factor: float) -> None:
    np.testing.assert_array_equal(kernels.apply_op(image, op, factor), pillow_op(image, op, factor))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    op=st.sampled_from(["autocontrast", "equalize"]),
    low=st.integers(0, 255),
    high=st.integers(0, 255),
)
def test_statistics_of_any_range(image: Pixels, op: str, low: int, high: int) -> None:
    squeezed = np.clip(image, min(low, high), max(low, high))
    np.testing.assert_array_equal(kernels.apply_op(squeezed, op), pillow_op(squeezed, op, 0.0))


def test_large_image_statistics() -> None:
    # Sums beyond 2**31 / 255 pixels would overflow a 32-bit mean.
    image = np.full((3000, 3000, 3), 250, np.uint8)
    image[0, 0] = 1
    for op, value in (("contrast", 0.5), ("equalize", 0.0), ("autocontrast", 0.0)):
        np.testing.assert_array_equal(kernels.apply_op(image, op, value), pillow_op(image, op, value))


def test_posterize_to_no_bits_is_black() -> None:
    # Pillow 13 refuses 0 bits; older ones gave black, which recipes written for them rely on.
    image = np.full((2, 3, 3), 200, np.uint8)
    assert not kernels.apply_op(image, "posterize", 0).any()


def test_arrays_and_tensors_come_back_as_they_went_in(odd_images: dict[str, Pixels]) -> None:
    image = odd_images["noise 37x53"]
    expected = pillow_op(image, "invert", 0.0)
    single = kernels.apply_op(torch.from_numpy(image), "invert")
    batch = kernels.apply_op(torch.from_numpy(np.stack([image, image])), "invert")
    assert single.shape == (37, 53, 3)
    assert batch.shape == (2, 37, 53, 3)
    np.testing.assert_array_equal(single.numpy(), expected)
    np.testing.assert_array_equal(batch[1].numpy(), expected)


def test_input_is_left_as_it_is_and_need_not_be_contiguous(
    odd_images: dict[str, Pixels], caplog: pytest.LogCaptureFixture
) -> None:
    image = odd_images["noise 37x53"]
    kept = image.copy()
    sliced = image[::2, ::-1]
    with caplog.at_level("DEBUG", logger="fastpipe.kernels"):
        ours = kernels.apply_op(sliced, "sharpness", 1.7)
    assert [record.message for record in caplog.records] == [
        f"images is not contiguous or not writable: copied once ({sliced.nbytes} bytes)"
    ]
    np.testing.assert_array_equal(ours, pillow_op(np.ascontiguousarray(sliced), "sharpness", 1.7))
    kernels.apply_op(image, "color", 0.3)
    np.testing.assert_array_equal(image, kept)


def test_read_only_input_is_accepted(odd_images: dict[str, Pixels]) -> None:
    image = np.asarray(Image.fromarray(odd_images["noise 37x53"]))
    image.setflags(write=False)
    np.testing.assert_array_equal(kernels.apply_op(image, "invert"), 255 - image)
