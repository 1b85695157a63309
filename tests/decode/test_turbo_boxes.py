"""The native boxes against fastpipe.decode.boxes: the same integers from the same uniforms."""

import numpy as np
import pytest

from fastpipe.decode.boxes import draw_box, num_uniforms, short_side
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop

turbo = pytest.importorskip("fastpipe._turbo", reason="turbo_built: fastpipe._turbo was not built")

NUM = 3000


def native(spec):
    if isinstance(spec, RandomResizedCrop):
        return turbo.Step("resized_crop", size=spec.size, scale=spec.scale, ratio=spec.ratio)
    return turbo.Step(
        "resize_crop", resize=spec.resize, crop=spec.crop, where=spec.where, padding=spec.padding
    )


def draws(num, spec, seed=0):
    numbers = np.random.default_rng(seed).random((num, num_uniforms(spec)))
    edges = np.array([0.0, 1.0 - 2.0**-53, 0.5, 2.0**-53])
    hit = np.random.default_rng(seed + 1).random(numbers.shape) < 0.05
    numbers[hit] = np.random.default_rng(seed + 2).choice(edges, hit.sum())
    return numbers


def sizes(num, most, seed=3):
    rng = np.random.default_rng(seed)
    small = rng.random((num, 1)) < 0.3
    return np.where(small, rng.integers(1, 40, (num, 2)), rng.integers(1, most, (num, 2)))


def assert_same_boxes(spec, image_sizes):
    numbers = draws(len(image_sizes), spec)
    got = native(spec).boxes(image_sizes, numbers)
    for box, (height, width), row in zip(got.tolist(), image_sizes.tolist(), numbers.tolist(), strict=True):
        want = draw_box(spec, row, height, width)
        assert box == [want.top, want.left, want.height, want.width], (height, width, row)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": (0.35, 1.0), "ratio": (0.5, 2.0)},
        {"scale": (1e-6, 1e-3)},
        # Never fits: the central crop, bounded below or above by the ratio.
        {"scale": (1.5, 2.0)},
        {"scale": (2.0, 2.0), "ratio": (1.0, 1.0)},
        {"scale": (0.9, 1.0), "ratio": (0.01, 0.02)},
        {"scale": (0.5, 3.0), "ratio": (40.0, 60.0)},
        {"ratio": (1 / 3, 3.0)},
    ],
)
def test_random_resized_crop(options):
    spec = RandomResizedCrop(size=(176, 176), **options)
    image_sizes = sizes(NUM, 65_500)
    image_sizes[: NUM // 2] = sizes(NUM // 2, 700)
    if options.get("ratio", (0, 1))[0] > 1 or options.get("ratio", (0, 1))[1] < 0.1:
        image_sizes = np.maximum(image_sizes, 100)  # a box without pixels is Pillow's matter
    assert_same_boxes(spec, image_sizes)


@pytest.mark.parametrize("crop", [(224, 224), (1, 1), (33, 200), (7, 4096)])
def test_center_crop_rounds_half_to_even_and_reaches_outside(crop):
    every = np.array([(height, width) for height in range(1, 60) for width in (1, 2, 33, 200, 201, 202, 203)])
    assert_same_boxes(ResizeCrop(crop=crop), np.concatenate([every, sizes(NUM, 5000)]))


@pytest.mark.parametrize(
    ("crop", "padding"), [((32, 32), (4, 4, 4, 4)), ((20, 31), (0, 7, 40, 1)), ((1, 1), (0, 0, 0, 0))]
)
def test_random_crop_after_padding(crop, padding):
    spec = ResizeCrop(crop=crop, where="random", padding=padding)
    image_sizes = sizes(NUM, 300) + np.array(crop)
    assert_same_boxes(spec, np.concatenate([image_sizes, np.full((500, 2), crop)]))


def test_a_crop_larger_than_the_padded_image_raises_as_in_python():
    spec = ResizeCrop(crop=(32, 32), where="random", padding=(1, 1, 1, 1))
    draw = np.full((1, 2), 0.25)
    assert_same_boxes(spec, np.array([[30, 30]]))
    for size in ([29, 30], [30, 29]):
        with pytest.raises(ValueError, match="larger than the image"):
            draw_box(spec, draw[0].tolist(), *size)
        with pytest.raises(ValueError, match="does not fit"):
            native(spec).boxes(np.array([size]), draw)


def test_a_box_without_pixels_is_left_to_pillow():
    spec = RandomResizedCrop(size=(8, 8), scale=(0.9, 1.0), ratio=(100.0, 200.0))
    draw = draws(1, spec)
    assert draw_box(spec, draw[0].tolist(), 40, 30).height == 0
    with pytest.raises(ValueError, match="does not fit"):
        native(spec).boxes(np.array([[40, 30]]), draw)


@pytest.mark.parametrize("side", [1, 7, 232, 256, 1000])
def test_shorter_side(side):
    step = turbo.Step("resize_crop", resize=side)
    for height, width in (sizes(NUM, 3000) + 20).tolist():  # at most 1000 x 151,000 pixels
        want = short_side(height, width, side)
        assert step.resized(height, width) == want


def test_a_pair_is_the_size():
    step = turbo.Step("resize_crop", resize=(31, 17))
    assert step.resized(5, 9) == (31, 17)
    assert step.size == (31, 17)
    assert turbo.Step("resize_crop", resize=(31, 17), crop=(4, 5)).size == (4, 5)
    assert turbo.Step("resize_crop", resize=31).size is None
    assert turbo.Step("resized_crop", size=(6, 7)).size == (6, 7)
    assert turbo.Step("whole").size is None


def test_a_resize_beyond_pillows_bound_is_refused():
    step = turbo.Step("resize_crop", resize=20_000)
    with pytest.raises(ValueError, match="too many pixels"):
        step.resized(1, 1)
    assert turbo.Step("resize_crop", resize=(13_377, 13_377)).resized(1, 1) == (13_377, 13_377)
    with pytest.raises(ValueError, match="too many pixels"):
        turbo.Step("resize_crop", resize=(13_378, 13_378)).resized(1, 1)


@pytest.mark.parametrize("spec", [RandomResizedCrop(size=(8, 8)), ResizeCrop(crop=(4, 4), where="random")])
def test_the_number_of_uniforms_is_pythons(spec):
    assert native(spec).num_uniforms == num_uniforms(spec)
    assert turbo.Step("whole").num_uniforms == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "other"}, "kind"),
        ({"kind": "resized_crop"}, "size"),
        ({"kind": "resized_crop", "size": (0, 3)}, "range"),
        ({"kind": "resized_crop", "size": (3, 3), "scale": (0.0, 1.0)}, "scale"),
        ({"kind": "resized_crop", "size": (3, 3), "ratio": (1.0, float("nan"))}, "ratio"),
        ({"kind": "resize_crop", "crop": (1, 1 << 31)}, "range"),
        ({"kind": "resize_crop", "crop": (1, 1), "where": "left"}, "where"),
        ({"kind": "resize_crop", "crop": (1, 1), "where": "random", "padding": (0, 0, -1, 0)}, "range"),
        ({"kind": "whole", "interpolation": "cubic"}, "interpolation"),
    ],
)
def test_wrong_numbers_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        turbo.Step(**arguments)


@pytest.mark.parametrize("bad", [1.0, -0.1, float("nan")])
def test_uniforms_outside_the_interval_raise(bad):
    step = turbo.Step("resize_crop", crop=(4, 4), where="random")
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        step.boxes(np.array([[9, 9]]), np.array([[0.5, bad]]))
