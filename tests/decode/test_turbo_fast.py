"""numerics="fast": decoding at 1/2, 1/4 and 1/8, near to the exact pixels and at the same place."""

import io

import numpy as np
import pytest
from PIL import Image

turbo = pytest.importorskip("fastpipe._turbo", reason="turbo_built: fastpipe._turbo was not built")


MOST = 1 << 40
SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def picture(height, width, seed, mode="RGB"):
    """Even slopes, which any smaller image keeps: what differs is rounding."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width]
    slopes = rng.choice([-1.5, -1.0, 1.0, 1.5], (2, 3)) * (160 / max(height, width))
    levels = 128 + (down[..., None] - height / 2) * slopes[0] + (across[..., None] - width / 2) * slopes[1]
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert(mode)


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 95, **options})
    return file.getvalue()


def made(data, size, box=None, fast=True, **options):
    """The image resized to (height, width); a RandomResizedCrop where `box` are its uniforms."""
    kind = {"kind": "resize_crop", "resize": size} if box is None else {"kind": "resized_crop", "size": size}
    step = turbo.Step(**kind, fast=fast, **options)
    images = np.zeros((1, *size, 3), np.uint8)
    draws = np.zeros((1, 0)) if box is None else box[None]
    assert turbo.Worker().fill_bytes([data], step, draws, images, MOST).tolist() == [0]
    return images[0].astype(int)


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_near_to_the_exact_pixels(shrink, options, sampling):
    for seed, (height, width) in enumerate([(240, 320), (233, 311), (129, 250)]):
        data = jpeg(picture(height, width, seed), subsampling=SAMPLINGS[sampling], **options)
        size = (height // shrink - 1, width // shrink - 2)
        difference = np.abs(made(data, size) - made(data, size, fast=False))
        assert difference.any()  # it is another way
        assert difference.mean() < 0.8 and difference.max() <= 8, (height, width)


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("across", [False, True], ids=["down", "across"])
def test_nothing_is_shifted(shrink, sampling, across):
    slope = np.linspace(20, 235, 320)  # 0.67 levels a pixel; the negative cancels what rounding does
    size, means = (320 // shrink, 320 // shrink), []
    for levels in (slope, 255 - slope):
        rows = np.broadcast_to(levels, (320, 320)) if across else np.broadcast_to(levels[:, None], (320, 320))
        colour = np.dstack([rows, np.full_like(rows, 128), 255 - rows]).astype(np.uint8)
        data = jpeg(Image.fromarray(colour), subsampling=SAMPLINGS[sampling])
        difference = made(data, size) - made(data, size, fast=False)
        means.append(difference[2:-2, 2:-2, 0].mean())
    assert abs(means[0] - means[1]) / 2 < 0.05 * shrink  # 0.07 pixels of the result


def test_crops_lie_at_the_same_place():
    rng = np.random.default_rng(0)
    for seed in range(25):
        data = jpeg(picture(*rng.integers(100, 400, 2).tolist(), seed), subsampling=2)
        box = rng.random(22)
        size = tuple(rng.integers(5, 30, 2).tolist())
        difference = np.abs(made(data, size, box) - made(data, size, box, fast=False))
        assert difference.mean() < 0.8 and difference.max() <= 8


def test_grey():
    data = jpeg(picture(203, 301, 1, "L"))
    fast, exact = (made(data, (40, 50), fast=fast) for fast in (True, False))
    assert np.abs(fast - exact).mean() < 0.6
    assert (fast == fast[..., :1]).all()


@pytest.mark.parametrize("options", [{"interpolation": "nearest"}, {}], ids=["nearest", "no smaller image"])
def test_exact_where_nothing_is_gained(options):
    data = jpeg(picture(200, 300, 3), subsampling=2)
    size = (20, 30) if options else (101, 149)
    np.testing.assert_array_equal(made(data, size, **options), made(data, size, fast=False, **options))


@pytest.mark.parametrize("size", [(100, 150), (50, 75), (25, 37)])
def test_vector_instructions_change_nothing(size):
    rng = np.random.default_rng(4)
    noise = Image.fromarray(rng.integers(0, 256, (203, 301, 3), dtype=np.uint8))
    for subsampling in SAMPLINGS.values():
        data = jpeg(noise, subsampling=subsampling, quality=70)
        before = turbo.used_simd()
        best = made(data, size)
        turbo.use_simd(0)
        try:
            np.testing.assert_array_equal(made(data, size), best)
        finally:
            turbo.use_simd(before)


def test_a_damaged_file_is_handed_over():
    data = jpeg(picture(200, 300, 5), subsampling=2, quality=60)
    step = turbo.Step("resize_crop", resize=(20, 30), fast=True)
    images = np.zeros((1, 20, 30, 3), np.uint8)
    cut = data[: len(data) // 2]
    status = turbo.Worker().fill_bytes([cut], step, np.zeros((1, 0)), images, MOST)[0]
    assert turbo.STATUSES[status] != "done"
