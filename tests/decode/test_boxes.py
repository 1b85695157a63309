"""Crop boxes against torchvision: the same where nothing is random, the same distribution elsewhere."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional

from fastpipe.decode import crop_and_resize, draw_box, num_uniforms, random_corners
from fastpipe.decode.boxes import center_box, resized_crop_box, short_side
from fastpipe.rng import Stream, uniforms
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop

NUM = 4000


def _noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _ours(height, width, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    ids = np.arange(NUM)
    draws = uniforms(11, 0, ids, np.zeros_like(ids), Stream.CROP, 22)
    boxes = [resized_crop_box(row, height, width, scale, ratio) for row in draws.tolist()]
    return np.array([(box.top, box.left, box.height, box.width) for box in boxes])


def _theirs(height, width, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    torch.manual_seed(5)
    image = Image.new("RGB", (width, height))
    get = transforms.RandomResizedCrop.get_params
    return np.array([get(image, list(scale), list(ratio)) for _ in range(NUM)])


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (64, 64), (40, 400)])
def test_random_resized_crop_has_torchvisions_distribution(height, width):
    ours, theirs = _ours(height, width), _theirs(height, width)
    for name, measure in {
        "area": lambda box: box[:, 2] * box[:, 3],
        "aspect": lambda box: box[:, 3] / box[:, 2],
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
    }.items():
        result = stats.ks_2samp(measure(ours), measure(theirs))
        assert result.pvalue > 1e-3, name


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (7, 3), (375, 500)])
def test_boxes_lie_within_the_image(height, width):
    boxes = _ours(height, width)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()


def test_extreme_strips_fall_back_to_the_central_crop():
    box = resized_crop_box([0.5] * 22, 1, 5000, (0.08, 1.0), (3 / 4, 4 / 3))
    assert (box.height, box.width, box.left) == (1, 1, 2499)
    image = Image.new("RGB", (5000, 1))
    assert transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) == (0, 2499, 1, 1)


SIZES = [(1, 1), (1, 7), (9, 2), (31, 17), (32, 32), (33, 40), (50, 31), (224, 225)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("crop", [(32, 32), (31, 33), (5, 60)], ids=str)
def test_center_crop_is_torchvisions_even_on_smaller_images(size, crop):
    image = _noise(*size)
    ours = crop_and_resize(image, ResizeCrop(crop=crop), [])
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(functional.center_crop(image, list(crop))))


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (50, 50), (7, 300), (33, 47)], ids=str)
@pytest.mark.parametrize("short", [32, 48])
def test_resize_then_center_crop_is_torchvisions(size, short):
    image = _noise(*size)
    expected = transforms.Compose([transforms.Resize(short), transforms.CenterCrop(28)])(image)
    ours = crop_and_resize(image, ResizeCrop(resize=short, crop=(28, 28)), [])
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_random_resized_crop_pixels_are_torchvisions(interpolation):
    image = _noise(61, 83)
    spec = RandomResizedCrop(size=(24, 40), interpolation=interpolation)
    draws = np.random.default_rng(1).random((20, num_uniforms(spec))).tolist()
    mode = functional.InterpolationMode(interpolation)
    for row in draws:
        box = draw_box(spec, row, 61, 83)
        expected = functional.resized_crop(image, box.top, box.left, box.height, box.width, [24, 40], mode)
        np.testing.assert_array_equal(np.asarray(crop_and_resize(image, spec, row)), np.asarray(expected))


def test_random_crop_with_padding_reaches_every_place_evenly():
    spec = ResizeCrop(crop=(32, 32), where="random", padding=(4, 4, 4, 4))
    draws = np.random.default_rng(2).random((9000, 2)).tolist()
    tops = [draw_box(spec, row, 32, 32).top for row in draws]
    assert set(tops) == set(range(-4, 5))
    assert stats.chisquare(np.bincount(np.array(tops) + 4)).pvalue > 1e-3
    image = _noise(32, 32)
    row = [0.0, 0.999]
    padded = functional.pad(image, [4, 4, 4, 4])
    expected = functional.crop(padded, 0, 8, 32, 32)
    np.testing.assert_array_equal(np.asarray(crop_and_resize(image, spec, row)), np.asarray(expected))


def test_a_random_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"crop of 64 x 64 .* larger than the image, which has 20 x 30"):
        crop_and_resize(_noise(20, 30), ResizeCrop(crop=(64, 64), where="random"), [0.5, 0.5])


def test_short_side_truncates_like_torchvision():
    for height, width in SIZES:
        image = Image.new("RGB", (width, height))
        expected = functional.resize(image, 20)
        assert short_side(height, width, 20) == (expected.height, expected.width)


def test_a_strip_that_would_fill_memory_is_refused():
    with pytest.raises(ValueError, match="MiB"):
        crop_and_resize(Image.new("RGB", (1, 5000)), ResizeCrop(resize=232, crop=(224, 224)), [])


def test_center_box_of_the_same_size_is_the_image():
    box = center_box(5, 6, (5, 6))
    assert (box.top, box.left, box.height, box.width) == (0, 0, 5, 6)
    assert math.prod((box.height, box.width)) == 30


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (4, 4, 4, 4), (1, 2, 3, 0)])
def test_the_corners_of_a_batch_are_those_of_each_image(padding):
    spec = ResizeCrop(crop=(20, 27), where="random", padding=padding)
    draws = np.random.default_rng(3).random((2000, 2))
    draws[:2] = [0.0, 0.0], [1 - 2**-53, 1 - 2**-53]
    boxes = [draw_box(spec, row, 31, 33) for row in draws.tolist()]
    tops, lefts = random_corners(draws, 31, 33, spec.crop, padding)
    assert [(box.top, box.left) for box in boxes] == list(zip(tops.tolist(), lefts.tolist(), strict=True))
    with pytest.raises(ValueError, match="larger than the image"):
        random_corners(draws, 10, 33, spec.crop, padding)
