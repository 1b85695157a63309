"""The native resize against Pillow's: the same bytes, with and without vector instructions."""

import numpy as np
import pytest
from PIL import Image

turbo = pytest.importorskip("fastpipe._turbo", reason="turbo_built: fastpipe._turbo was not built")


R = Image.Resampling
FILTERS = (R.NEAREST, R.BILINEAR, R.BICUBIC, R.BOX, R.HAMMING, R.LANCZOS)  # by the native number
SIMD = sorted({0, turbo.best_simd()})


@pytest.fixture(params=SIMD, ids=lambda simd: f"simd{simd}")
def resizer(request):
    before = turbo.used_simd()
    turbo.use_simd(request.param)
    assert turbo.used_simd() == request.param
    yield turbo.Resizer()
    turbo.use_simd(before)


def noise(rng, height, width):
    """Random levels, or only 0 and 255, which drive the filters that overshoot to their limits."""
    levels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return levels if rng.random() < 0.6 else np.where(levels < 128, 0, 255).astype(np.uint8)


def window(rng, height, width):
    """left, top, width, height: half of the time everything."""
    if rng.random() < 0.5:
        return (0, 0, width, height)
    left, top = int(rng.integers(width)), int(rng.integers(height))
    return (left, top, int(rng.integers(1, width - left + 1)), int(rng.integers(1, height - top + 1)))


def assert_pillows(resizer, image, size, part, number, ahead=8):
    """`size`: (height, width)."""
    whole = np.asarray(Image.fromarray(image).resize((size[1], size[0]), FILTERS[number]))
    left, top, width, height = part
    want = whole[top : top + height, left : left + width]
    got = resizer.resize(image, size, part, number, ahead)
    case = (image.shape, size, part, FILTERS[number].name, ahead)
    np.testing.assert_array_equal(got, want, err_msg=str(case))


@pytest.mark.parametrize("number", range(6), ids=[name.name for name in FILTERS])
def test_random_sizes(resizer, number):
    rng = np.random.default_rng(number)
    for _ in range(350):
        most, most_out = (700, 300) if rng.random() < 0.2 else (70, 50)
        height, width = rng.integers(1, most, 2).tolist()
        out_height, out_width = rng.integers(1, most_out, 2).tolist()
        if rng.random() < 0.2:  # one pass, or none
            out_height = height if rng.random() < 0.7 else out_height
            out_width = width if rng.random() < 0.7 else out_width
        part = window(rng, out_height, out_width)
        size = (out_height, out_width)
        assert_pillows(resizer, noise(rng, height, width), size, part, number, int(rng.integers(1, 65)))


@pytest.mark.parametrize("number", range(6), ids=[name.name for name in FILTERS])
@pytest.mark.parametrize(
    ("height", "width", "out_height", "out_width"),
    [
        (1, 1, 1, 1),
        (1, 1, 50, 60),
        (2, 3, 300, 301),
        (3000, 2, 3, 5),
        (3000, 20, 150, 19),
        (2, 3000, 5, 3),
        (1, 5000, 1, 4999),
        (5000, 1, 4999, 1),
        (700, 500, 7, 11),
        (270, 320, 176, 176),
    ],
)
def test_extreme_shapes(resizer, number, height, width, out_height, out_width):
    rng = np.random.default_rng(height + width)
    image = noise(rng, height, width)
    whole = (0, 0, out_width, out_height)
    assert_pillows(resizer, image, (out_height, out_width), whole, number)
    for _ in range(3):
        assert_pillows(
            resizer, image, (out_height, out_width), window(rng, out_height, out_width), number, 33
        )


def test_the_order_of_passes_is_pillow_13s(resizer):
    # Vertical first where the height loses more than twice as many pixels as the width.
    image = noise(np.random.default_rng(0), 100, 100)
    orders = set()
    for size in [(90, 95), (89, 95), (90, 101), (101, 90), (100, 90), (99, 100), (98, 99)]:
        assert_pillows(resizer, image, size, (0, 0, size[1], size[0]), 2)
        got = resizer.resize(image, size, (0, 0, size[1], size[0]), 2)
        rows_first = Image.fromarray(image).resize((100, size[0]), R.BICUBIC).resize(size[::-1], R.BICUBIC)
        orders.add(bool((np.asarray(rows_first) == got).all()))
    assert orders == {True, False}


@pytest.mark.parametrize("size", [(20, 90), (89, 95), (90, 120), (50, 50)])
def test_until_pillow_12_the_horizontal_pass_is_first(resizer, size):
    image = noise(np.random.default_rng(1), 100, 100)
    part = (0, 0, size[1], size[0])
    columns = Image.fromarray(image).resize((size[1], 100), R.LANCZOS)
    want = np.asarray(columns.resize(size[::-1], R.LANCZOS))
    got = resizer.resize(image, size, part, 5, tall_rows_first=False)
    np.testing.assert_array_equal(got, want)


def test_one_resizer_takes_any_sequence(resizer):
    # Its memory and coefficients stay from image to image: a stale one would show here.
    rng = np.random.default_rng(9)
    shapes = [(40, 50, 20, 20), (50, 40, 20, 20), (40, 50, 20, 25), (300, 10, 20, 20), (40, 50, 60, 70)]
    for _ in range(150):
        height, width, out_height, out_width = shapes[rng.integers(len(shapes))]
        part = window(rng, out_height, out_width)
        number = int(rng.integers(6))
        assert_pillows(resizer, noise(rng, height, width), (out_height, out_width), part, number)


def test_a_window_needs_only_its_part(resizer):
    image = noise(np.random.default_rng(2), 200, 300)
    want = resizer.resize(image, (100, 150), (70, 50, 10, 8), 1)
    hidden = image.copy()
    hidden[:90] = hidden[130:] = 7
    hidden[:, :130] = hidden[:, 170:] = 7
    np.testing.assert_array_equal(resizer.resize(hidden, (100, 150), (70, 50, 10, 8), 1), want)


def test_four_bytes_a_pixel_give_the_same(resizer):
    rng = np.random.default_rng(3)
    image = noise(rng, 61, 47)
    padded = np.dstack([image, rng.integers(0, 256, (61, 47), dtype=np.uint8)])
    for size in [(20, 30), (61, 30), (20, 47), (61, 47), (20, 60)]:
        part = (0, 0, size[1], size[0])
        np.testing.assert_array_equal(
            resizer.resize(padded, size, part, 5), resizer.resize(image, size, part, 5)
        )


@pytest.mark.parametrize(
    ("size", "part", "number"),
    [
        ((0, 5), (0, 0, 5, 0), 1),
        ((5, 5), (0, 0, 6, 5), 1),
        ((5, 5), (-1, 0, 3, 5), 1),
        ((5, 5), (4, 0, 2, 5), 1),
        ((5, 5), (0, 0, 0, 5), 1),
        ((5, 5), (2**31 - 1, 0, 2, 5), 1),
        ((5, 1 << 30), (0, 0, 5, 5), 1),
        ((5, 5), (0, 0, 5, 5), 6),
        ((5, 5), (0, 0, 5, 5), -1),
    ],
)
def test_what_makes_no_sense_is_refused(resizer, size, part, number):
    with pytest.raises(ValueError, match=r"cannot resize|unknown filter"):
        resizer.resize(np.zeros((9, 9, 3), np.uint8), size, part, number)
