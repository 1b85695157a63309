"""The sheet of the Hot pipeline: its pixels are the stage's, its words are the draws."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from PIL import Image, ImageOps

from fastpipe.device.draws.draw import Params
from fastpipe.device.draws.params import STILL, OpParams
from fastpipe.kernels import OPS
from fastpipe.kernels.matrices import rotate, shear_x, translate_y


def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)) for _ in range(3)]


def test_the_sheet_begins_with_the_photos_and_changes_them(hot: ModuleType) -> None:
    sheet = np.asarray(hot.draw_hot(photos(), side=64, epochs=2))
    squares = [np.asarray(ImageOps.fit(photo, (64, 64), Image.Resampling.BILINEAR)) for photo in photos()]
    step = (sheet.shape[0] - 14) // 3
    for row, square in enumerate(squares):
        top = 14 + row * step
        assert np.array_equal(sheet[top : top + 64, :64], square)
        for epoch in (1, 2):
            # ColOut leaves 60 of 64; the rest of the place stays white.
            drawn = sheet[top : top + 64, epoch * 68 : epoch * 68 + 64]
            assert (drawn[60:64, :60] == 255).all() and (drawn[:60, :60] != square[:60, :60]).mean() > 0.5


def test_the_words_are_the_draws(hot: ModuleType) -> None:
    warps = [rotate(-21.0, 64, 64), shear_x(0.2), translate_y(-7.0), STILL]
    ops = OpParams(
        ops=np.array([[OPS["affine"]]] * 3 + [[OPS["color"]]], np.int16),
        values=np.array([[0.0]] * 3 + [[1.5]]),
        matrices=np.array(warps)[:, None],
        interpolations=np.ones((4, 1), np.uint8),
        fills=np.zeros((4, 3), np.uint8),
    )
    params = Params(flip=np.array([True, False, False, False]), ops=ops)
    words = [hot.words_of(params, row)[0] for row in range(4)]
    assert words == ["flip, rotate -21°", "shear_x 0.20", "translate 0, -7 px", "color 1.5"]
