"""Images that break pixel code: every odd shape, and contents that make statistics degenerate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

Image = npt.NDArray[np.uint8]

SHAPES = [(1, 1), (1, 7), (9, 1), (2, 2), (3, 3), (2, 5), (31, 17), (16, 48), (37, 53)]


def _contents(height: int, width: int, rng: np.random.Generator) -> dict[str, Image]:
    shape = (height, width, 3)
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256], axis=-1)
    return {
        "noise": rng.integers(0, 256, shape).astype(np.uint8),
        "dim": np.clip(rng.normal(110, 20, shape), 0, 255).astype(np.uint8),
        "ramp": ramp.astype(np.uint8),
        "constant": np.full(shape, (7, 128, 255), np.uint8),
        "two_values": np.where(rng.random(shape) < 0.3, 40, 41).astype(np.uint8),
        "black_white": np.where(rng.random(shape) < 0.5, 0, 255).astype(np.uint8),
    }


@pytest.fixture(scope="session")
def odd_images() -> dict[str, Image]:
    """uint8 [H,W,3] by name."""
    rng = np.random.default_rng(20)
    return {
        f"{name} {height}x{width}": image
        for height, width in SHAPES
        for name, image in _contents(height, width, rng).items()
    }
