"""The writer's files show the picture that it was given, to Pillow: else tests with them would say little."""

import io

import numpy as np
import pytest
from PIL import Image

from fastpipe.decode.jpeg_entropy import code_lengths
from fastpipe.decode.jpeg_writer import Layout, simple_scans, write


def _picture(height, width):
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 9 + y / (7 + c) + c) for c in range(3)], axis=-1)
    return np.clip(128 + 90 * waves, 0, 255).astype(np.uint8)


def _read(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("factors", ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (2, 4)))
@pytest.mark.parametrize("restart", (0, 3))
def test_pillow_sees_the_picture(factors, restart):
    picture = _picture(41, 67)
    sampling = (factors, (1, 1), (1, 1))
    baseline, progressive = (
        _read(write(picture, Layout(sampling=sampling, restart=restart, quality=95, scans=scans)))
        for scans in ((), simple_scans(3))
    )
    np.testing.assert_array_equal(progressive, baseline)
    # The colours of a wave that is 9 pixels long suffer where only each fourth is kept.
    assert np.abs(baseline.astype(int) - picture).mean() < (3 if factors == (1, 1) else 16)


def test_optimal_codes_have_at_most_16_bits():
    fibonacci = [1, 1]
    while len(fibonacci) < 20:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = code_lengths(symbol for symbol, count in enumerate(fibonacci) for _ in range(count))
    assert max(lengths.values()) == 16 and len(lengths) == 20
    assert sum(2.0**-length for length in lengths.values()) < 1  # the code of ones is free
