"""`python scripts/gallery.py OUT.png [PHOTO] [--photos demo]`: every operation next to Pillow's.

A row for each operation: the kernel's pixels at four magnitudes, each with Pillow's to its right, and under
each pair the number of bytes that differ. Pillow is used only here: for drawing, and for the comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gallery_hot import draw_hot
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from fastpipe.kernels.augmentation import apply_op
from fastpipe.kernels.matrices import Matrix, rotate, shear_x, shear_y, translate_x, translate_y
from fastpipe.storage.demo import demo_photos

__all__ = ["ROWS", "Cell", "Row", "compare", "draw_gallery", "main", "sample_image"]

Pixels = npt.NDArray[np.uint8]

_SIDE, _GAP, _LINE, _MARGIN = 112, 4, 14, 96
_FILL = (128, 128, 128)
_DEMO = ("astronaut", "coffee", "cat", "rocket", "china", "flower")
_SUFFIXES, _MOST = (".jpg", ".jpeg", ".png"), 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation: its name in `OPS`, its magnitudes, Pillow's version, and the matrix of a warp.

    pillow takes the image and the magnitude; matrix takes magnitude, height and width in pixels.
    """

    op: str
    magnitudes: tuple[float, ...]
    pillow: Callable[[Image.Image, float], Image.Image]
    matrix: Callable[[float, int, int], Matrix] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One magnitude of one operation, from both: uint8 [H,W,3], and the number of bytes that differ."""

    ours: Pixels
    pillows: Pixels
    differ: int


def _enhance(
    make: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, factor: make(image).enhance(factor)


def _affine(image: Image.Image, matrix: Matrix) -> Image.Image:
    bilinear = Image.Resampling.BILINEAR
    return image.transform(image.size, Image.Transform.AFFINE, matrix, bilinear, fillcolor=_FILL)


def _solarize_add(image: Image.Image, addend: float) -> Image.Image:
    levels = [min(level + int(addend), 255) if level < 128 else level for level in range(256)]
    return image.point(levels * 3)


_FACTORS = (0.1, 0.5, 1.5, 2.5)

ROWS: dict[str, Row] = {
    "autocontrast": Row(op="autocontrast", magnitudes=(0.0,), pillow=lambda i, _: ImageOps.autocontrast(i)),
    "equalize": Row(op="equalize", magnitudes=(0.0,), pillow=lambda i, _: ImageOps.equalize(i)),
    "invert": Row(op="invert", magnitudes=(0.0,), pillow=lambda i, _: ImageOps.invert(i)),
    "posterize": Row(
        op="posterize", magnitudes=(1, 2, 3, 4), pillow=lambda i, v: ImageOps.posterize(i, int(v))
    ),
    "solarize": Row(
        op="solarize", magnitudes=(32, 96, 160, 224), pillow=lambda i, v: ImageOps.solarize(i, int(v))
    ),
    "solarize_add": Row(op="solarize_add", magnitudes=(20, 50, 80, 110), pillow=_solarize_add),
    "brightness": Row(op="brightness", magnitudes=_FACTORS, pillow=_enhance(ImageEnhance.Brightness)),
    "color": Row(op="color", magnitudes=_FACTORS, pillow=_enhance(ImageEnhance.Color)),
    "contrast": Row(op="contrast", magnitudes=_FACTORS, pillow=_enhance(ImageEnhance.Contrast)),
    "sharpness": Row(
        op="sharpness", magnitudes=(0.1, 2.0, 5.0, 10.0), pillow=_enhance(ImageEnhance.Sharpness)
    ),
    "rotate": Row(
        op="affine",
        magnitudes=(-30, -10, 10, 30),
        pillow=lambda i, v: i.rotate(v, Image.Resampling.BILINEAR, fillcolor=_FILL),
        matrix=rotate,
    ),
    "shear_x": Row(
        op="affine",
        magnitudes=(-0.3, -0.1, 0.1, 0.3),
        pillow=lambda i, v: _affine(i, (1.0, v, 0.0, 0.0, 1.0, 0.0)),
        matrix=lambda v, height, width: shear_x(v),
    ),
    "shear_y": Row(
        op="affine",
        magnitudes=(-0.3, -0.1, 0.1, 0.3),
        pillow=lambda i, v: _affine(i, (1.0, 0.0, 0.0, v, 1.0, 0.0)),
        matrix=lambda v, height, width: shear_y(v),
    ),
    "translate_x": Row(
        op="affine",
        magnitudes=(-37, -12, 12, 37),
        pillow=lambda i, v: _affine(i, (1.0, 0.0, v, 0.0, 1.0, 0.0)),
        matrix=lambda v, height, width: translate_x(v),
    ),
    "translate_y": Row(
        op="affine",
        magnitudes=(-37, -12, 12, 37),
        pillow=lambda i, v: _affine(i, (1.0, 0.0, 0.0, 0.0, 1.0, v)),
        matrix=lambda v, height, width: translate_y(v),
    ),
}
"""Every operation by its usual name, with Pillow's call for it."""


def sample_image(side: int = _SIDE) -> Image.Image:
    """A synthetic picture: a sky in shades, a hill, a sun, a wall of tiles, some grain."""
    y, x = np.mgrid[0:side, 0:side] / side
    sky = np.stack([90 + 100 * y, 140 + 70 * y, 225 - 40 * y], axis=-1)
    hill = y > 0.62 + 0.1 * np.sin(7 * x)
    tiles = (np.floor(12 * x) + np.floor(12 * y)) % 2
    sky[hill] = np.stack([60 + 50 * tiles, 110 + 40 * tiles, 50 + 20 * tiles], axis=-1)[hill]
    sky[(x - 0.7) ** 2 + (y - 0.25) ** 2 < 0.02] = (250, 220, 110)
    grain = np.random.default_rng(0).normal(0, 5, sky.shape)
    return Image.fromarray(np.clip(sky + grain, 20, 250).astype(np.uint8))


def compare(image: Image.Image, row: Row) -> list[Cell]:
    """The row's operation at each of its magnitudes, by our kernels and by Pillow."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    cells = []
    for magnitude in row.magnitudes:
        matrix = None if row.matrix is None else row.matrix(magnitude, height, width)
        value = 0.0 if matrix else magnitude
        ours = apply_op(pixels, row.op, value, matrix=matrix, fill=_FILL, interpolation="bilinear")
        pillows = np.asarray(row.pillow(image, magnitude))
        cells.append(Cell(ours=ours, pillows=pillows, differ=int((ours != pillows).sum())))
    return cells


def draw_gallery(image: Image.Image) -> Image.Image:
    """All of `ROWS` on one sheet, on an RGB image of any size, which is cropped to a square and resized."""
    square = ImageOps.fit(image.convert("RGB"), (_SIDE, _SIDE), Image.Resampling.BILINEAR)
    most = max(len(row.magnitudes) for row in ROWS.values())
    step = _SIDE + _GAP + _LINE
    sheet = Image.new("RGB", (_MARGIN + most * (2 * _SIDE + 3 * _GAP), step * len(ROWS) + _LINE), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 1), "left: fastpipe.kernels, right: Pillow", fill="black")
    for place, (name, row) in enumerate(ROWS.items()):
        top = _LINE + place * step
        pen.text((_GAP, top + _SIDE // 2), name, fill="black")
        _draw_row(sheet, pen, top, row.magnitudes, compare(square, row))
    return sheet


def _draw_row(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int, magnitudes: Sequence[float], cells: Sequence[Cell]
) -> None:
    for place, (magnitude, cell) in enumerate(zip(magnitudes, cells, strict=True)):
        left = _MARGIN + place * (2 * _SIDE + 3 * _GAP)
        sheet.paste(Image.fromarray(cell.ours), (left, top))
        sheet.paste(Image.fromarray(cell.pillows), (left + _SIDE + 1, top))
        words = f"{magnitude:g}: {'equal' if cell.differ == 0 else f'{cell.differ} bytes differ'}"
        pen.text((left, top + _SIDE), words, fill="black" if cell.differ == 0 else "red")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet to the first argument, with the given photos for it and for the Hot pipeline."""
    parser = argparse.ArgumentParser(prog="scripts/gallery.py", description=__doc__)
    parser.add_argument("out", metavar="OUT.png", help="where to write the picture; .jpg makes it small")
    parser.add_argument("photo", nargs="?", help="a photo to use instead of the built-in picture")
    parser.add_argument(
        "--photos",
        help="the Hot pipeline on photos, drawn below: demo, or the .jpg and .png files of a folder",
    )
    options = parser.parse_args(arguments)
    image = sample_image() if options.photo is None else _open(options.photo)
    sheet = draw_gallery(image)
    if options.photos is not None:
        sheet = _stacked(sheet, _hot(options.photos))
    sheet.save(options.out, quality=70)  # of a JPEG; PNG has no such setting


def _open(path: str | Path) -> Image.Image:
    with Image.open(path) as photo:
        return photo.convert("RGB")


def _hot(where: str) -> Image.Image:
    if where == "demo":
        found = demo_photos()
        paths = [found[name] for name in _DEMO]
    else:
        paths = sorted(path for path in Path(where).iterdir() if path.suffix.lower() in _SUFFIXES)[:_MOST]
    if not paths:
        raise SystemExit(f"--photos must be demo, or a folder with .jpg or .png files. Found: {where!r}")
    return draw_hot([_open(path) for path in paths])


def _stacked(above: Image.Image, below: Image.Image) -> Image.Image:
    size = (max(above.width, below.width), above.height + _LINE + below.height)
    sheet = Image.new("RGB", size, "white")
    sheet.paste(above, (0, 0))
    sheet.paste(below, (0, above.height + _LINE))
    return sheet


if __name__ == "__main__":
    main()
