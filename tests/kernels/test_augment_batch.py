"""Chains of operations per image: equal to Pillow's, one after another, for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from fastpipe import kernels

Pixels = npt.NDArray[np.uint8]
OPS = kernels.OPS
NUM, HEIGHT, WIDTH, DEPTH = 61, 29, 34, 3


class Draws:
    """Random operations for NUM images, and Pillow's answer to them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.images = np.clip(rng.normal(110, 45, (NUM, HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
        self.ops = rng.integers(0, len(OPS), (NUM, DEPTH))
        self.values = rng.uniform(0.1, 1.9, (NUM, DEPTH))
        for name, low, high in (("posterize", 1, 9), ("solarize_add", 0, 111), ("solarize", 0, 257)):
            chosen = self.ops == OPS[name]
            self.values[chosen] = rng.integers(low, high, chosen.sum())
        self.matrices = np.tile(np.array([1.0, 0, 0, 0, 1, 0]), (NUM, DEPTH, 1))
        self.matrices += rng.uniform(-0.3, 0.3, self.matrices.shape) * [1, 1, 20, 1, 1, 20]
        self.fills = rng.integers(0, 256, (NUM, 3)).astype(np.uint8)
        self.interpolations = rng.integers(0, 2, (NUM, DEPTH)).astype(np.uint8)
        self.flip = rng.integers(0, 2, NUM).astype(np.uint8)

    @property
    def arguments(self) -> tuple[npt.NDArray[Any], ...]:
        return self.ops, self.values, self.matrices, self.fills, self.interpolations

    def run(self, **kwargs: Any) -> Pixels:
        return kernels.augment_batch(self.images, *self.arguments, flip=self.flip, **kwargs)

    def pillow(self) -> Pixels:
        return np.stack([self._pillow(i) for i in range(NUM)])

    def _pillow(self, i: int) -> Pixels:
        image = Image.fromarray(self.images[i])
        image = ImageOps.mirror(image) if self.flip[i] else image
        for depth in range(DEPTH):
            image = self._pillow_op(image, i, depth)
        return np.asarray(image)

    def _pillow_op(self, image: Image.Image, i: int, depth: int) -> Image.Image:
        names = {code: name for name, code in OPS.items()}
        name, value = names[int(self.ops[i, depth])], float(self.values[i, depth])
        if name == "identity":
            return image
        if name in ("autocontrast", "equalize", "invert"):
            flat: Image.Image = getattr(ImageOps, name)(image)
            return flat
        if name == "posterize":
            return ImageOps.posterize(image, int(value))
        if name == "solarize":
            return ImageOps.solarize(image, int(value))
        if name == "solarize_add":
            return image.point([v + int(value) if v < 128 else v for v in range(256)] * 3)
        if name == "affine":
            resample = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)[self.interpolations[i, depth]]
            fill = tuple(int(v) for v in self.fills[i])
            matrix = self.matrices[i, depth].tolist()
            return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)
        enhanced: Image.Image = getattr(ImageEnhance, name.capitalize())(image).enhance(value)
        return enhanced


@pytest.fixture(scope="module")
def draws() -> Draws:
    return Draws(seed=8)


@pytest.fixture(scope="module")
def expected(draws: Draws) -> Pixels:
    return draws.pillow()


@pytest.mark.parametrize("num_threads", [1, 2, 3, 100])
def test_equals_pillow_for_any_number_of_threads(draws: Draws, expected: Pixels, num_threads: int) -> None:
    kept = draws.images.copy()
    np.testing.assert_array_equal(draws.run(num_threads=num_threads), expected)
    np.testing.assert_array_equal(draws.images, kept)


def test_the_draws_use_every_operation_both_flips_and_both_interpolations(draws: Draws) -> None:
    assert set(draws.ops.ravel()) == set(OPS.values())
    assert set(draws.flip) == set(draws.interpolations[draws.ops == OPS["affine"]]) == {0, 1}


def test_writes_into_out_and_returns_it(draws: Draws, expected: Pixels) -> None:
    out = np.full_like(draws.images, 99)
    assert draws.run(out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_in_place(expected: Pixels) -> None:
    draws = Draws(seed=8)
    draws.run(out=draws.images, num_threads=2)
    np.testing.assert_array_equal(draws.images, expected)


def test_tensors_in_tensor_out(draws: Draws, expected: Pixels) -> None:
    arguments = [torch.from_numpy(np.asarray(argument)) for argument in draws.arguments]
    result = kernels.augment_batch(
        torch.from_numpy(draws.images), *arguments, flip=torch.from_numpy(draws.flip.astype(bool))
    )
    assert result.dtype == torch.uint8
    np.testing.assert_array_equal(result.numpy(), expected)


def test_no_operations_is_a_flip_or_a_copy(draws: Draws) -> None:
    empty = np.zeros((NUM, 0))
    result = kernels.augment_batch(draws.images, empty.astype(np.int64), empty, None, None, None)
    np.testing.assert_array_equal(result, draws.images)
    assert not np.may_share_memory(result, draws.images)
    flags = np.ones(NUM, bool)
    result = kernels.augment_batch(draws.images, empty.astype(np.int64), empty, None, None, None, flip=flags)
    np.testing.assert_array_equal(result, draws.images[:, :, ::-1])


def test_each_image_has_its_own_statistics() -> None:
    dark = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    images = np.stack([dark, dark + 200])
    ops = np.array([[OPS["autocontrast"]], [OPS["contrast"]]])
    result = kernels.augment_batch(images, ops, np.full((2, 1), 0.0), None, None, None)
    np.testing.assert_array_equal(result[0], np.asarray(ImageOps.autocontrast(Image.fromarray(dark))))
    np.testing.assert_array_equal(result[1], ImageEnhance.Contrast(Image.fromarray(dark + 200)).enhance(0))
