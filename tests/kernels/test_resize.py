"""Antialiased resize against Pillow, up and down, every odd shape: equal bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastpipe.kernels import nearest_sources, resize, resize_torch


def by_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Columns first, then rows: at once for squares; else in two calls, since Pillow 13 may reverse them."""
    picture = Image.fromarray(image)
    if picture.width != picture.height or width != height:
        picture = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


sides = st.integers(1, 70)


@settings(max_examples=150, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_any_size_to_any_size(height: int, width: int, new_height: int, new_width: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    ours = resize(images, new_height, new_width)
    for image, result in zip(images, ours, strict=True):
        np.testing.assert_array_equal(result, by_pillow(image, new_height, new_width))


@pytest.mark.parametrize("size", [(176, 176), (167, 167), (224, 224), (448, 448), (1, 300), (256, 100)])
def test_sizes_of_training(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image[None], *size)[0], by_pillow(image, *size))


@settings(max_examples=100, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_nearest_any_size_to_any_size(
    height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    """nearest-exact against Pillow, nearest against torch, both on the CPU and in plain torch."""
    images = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    ours = resize(images, new_height, new_width, interpolation="nearest-exact")
    pillow = Image.fromarray(images[0]).resize((new_width, new_height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(ours[0], np.asarray(pillow))
    tensor = torch.from_numpy(images)
    planes = torch.nn.functional.interpolate(tensor.permute(0, 3, 1, 2), size=(new_height, new_width))
    nearest = resize(tensor, new_height, new_width, interpolation="nearest")
    assert torch.equal(nearest, planes.permute(0, 2, 3, 1))
    for mode, result in (("nearest", nearest), ("nearest-exact", torch.from_numpy(ours))):
        assert torch.equal(resize_torch(tensor, new_height, new_width, mode), result)


@pytest.mark.parametrize(("old", "new"), [(320, 176), (320, 224), (167, 128), (65536, 7), (7, 65536)])
def test_nearest_pixels_on_long_sides(old: int, new: int) -> None:
    """Pillow walks in float64, so ties go either way: 320 to 176 differs from a closed form at 13 pixels."""
    line = np.arange(old, dtype=np.float32)[None]
    pillow = np.asarray(Image.fromarray(line).resize((new, 1), Image.Resampling.NEAREST))[0]
    np.testing.assert_array_equal(nearest_sources(old, new, "nearest-exact"), pillow)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(line)[None], size=new)[0, 0]
    np.testing.assert_array_equal(nearest_sources(old, new, "nearest"), theirs.numpy())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(20, 20), (70, 33), (1, 1), (31, 90), (33, 47)])
def test_plain_torch_has_the_same_bytes(size: tuple[int, int], antialias: bool) -> None:
    images = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (2, 33, 47, 3), dtype=np.uint8))
    expected = resize(images, *size, antialias=antialias)
    assert torch.equal(resize_torch(images, *size, antialias=antialias), expected)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_constant_images_stay_constant(level: int) -> None:
    images = np.full((1, 33, 47, 3), level, np.uint8)
    assert (resize(images, 20, 99) == level).all()


def test_black_and_white_do_not_wrap_around() -> None:
    image = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    for side in (17, 63, 65, 200):
        np.testing.assert_array_equal(resize(image[None], side, side)[0], by_pillow(image, side, side))


def test_odd_images(odd_images: dict[str, np.ndarray]) -> None:
    for name, image in odd_images.items():
        for size in ((1, 1), (7, 3), (40, 40)):
            assert (resize(image[None], *size)[0] == by_pillow(image, *size)).all(), (name, size)


def test_tensors_threads_and_strides() -> None:
    images = torch.randint(0, 256, (7, 30, 41, 3), dtype=torch.uint8)
    one = resize(images, 20, 20)
    assert isinstance(one, torch.Tensor) and torch.equal(one, resize(images, 20, 20, num_threads=3))
    strided = resize(images[:, ::2], 10, 10)
    assert torch.equal(strided, resize(images[:, ::2].contiguous(), 10, 10))


@pytest.mark.parametrize(
    ("images", "size", "text"),
    [
        (np.zeros((1, 4, 4, 3), np.float32), (2, 2), r"images must be uint8 \[B, H, W, 3\]"),
        (np.zeros((4, 4, 3), np.uint8), (2, 2), "images must be uint8"),
        (np.zeros((0, 4, 4, 3), np.uint8), (2, 2), "at least one image"),
        (np.zeros((1, 4, 4, 3), np.uint8), (0, 2), r"height must be a whole number in 1..65536. Found: 0"),
        (np.zeros((1, 4, 4, 3), np.uint8), (2, 65537), "width must be a whole number"),
        (np.zeros((1, 4, 4, 3), np.uint8), (2, 2.0), "width must be a whole number"),
    ],
)
def test_bad_input(images: Any, size: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        resize(images, *size)
