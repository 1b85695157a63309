"""The picture of a preview: a row for each image and a column for each epoch, or a grid for one epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from fastpipe.loader.preview.row import Levels, Row

_GAP, _PAD, _FONT, _LINE = 10, 12, 12, 16
_LEAST, _MOST = 168, 256  # pixels of a cell's side
_INK, _GREY, _PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)

Line = tuple[str, tuple[int, int, int]]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Cell = tuple[Levels | None, list[Line]]


def draw_sheet(
    rows: Sequence[Row], originals: Mapping[Any, Levels], title: str, notes: Sequence[str]
) -> Image.Image:
    """An RGB picture of all rows; under each image its label and its operations.

    originals: for a sheet of several epochs, the image as stored, by id; it fills the first column.
    """
    font: Font = ImageFont.load_default(_FONT)
    side = cell_side(rows)
    grid = _grid(rows, originals)
    cells = [[_wrapped(cell, font, side) for cell in line] for line in grid]
    tops, height = [], _PAD
    width = max((len(line) for line in cells), default=1) * (side + _GAP) - _GAP + 2 * _PAD
    head = [part for text in (title, *notes) for part in _wrap(text, font, max(width, 320) - 2 * _PAD)]
    height += len(head) * _LINE + _GAP
    for line in cells:
        tops.append(height)
        height += _tallest(line, side) + max(len(words) for _, words in line) * _LINE + _GAP
    sheet = Image.new("RGB", (max(width, 320), height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, text in enumerate(head):
        pen.text((_PAD, _PAD + number * _LINE), text, fill=_INK, font=font)
    for top, line in zip(tops, cells, strict=True):
        for column, cell in enumerate(line):
            place = (_PAD + column * (side + _GAP), top)
            _draw_cell(sheet, pen, place, cell, (side, _tallest(line, side)), font)
    return sheet


def cell_side(rows: Sequence[Row]) -> int:
    """The side of a cell in pixels: the largest image, enlarged a whole number of times, within bounds."""
    largest = max((max(row.pixels.shape) for row in rows if row.pixels is not None), default=_LEAST)
    return min(max(largest * max(1, _MOST // largest), _LEAST), _MOST)


def _tallest(line: Sequence[Cell], side: int) -> int:
    """The height of the images in a line, in pixels."""
    return max((as_shown(pixels, side).height for pixels, _ in line if pixels is not None), default=0)


def as_shown(pixels: Levels, side: int) -> Image.Image:
    """The image at the size of a cell: whole multiples keep its pixels, larger ones are reduced."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest <= side:
        times = side // longest
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    scale = side / longest
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def by_image(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each image, by epoch, in the order of the first epoch."""
    found: dict[Any, list[Row]] = {}
    for number, row in enumerate(rows):
        found.setdefault(number if row.id is None else row.id, []).append(row)
    return list(found.values())


def _grid(rows: Sequence[Row], originals: Mapping[Any, Levels]) -> list[list[Cell]]:
    if len({row.epoch for row in rows}) > 1:
        return [[_original(line[0], originals), *map(_cell, line)] for line in by_image(rows)]
    columns = max(1, math.ceil(math.sqrt(len(rows))))
    cells = [_cell(row, alone=True) for row in rows]
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def _original(row: Row, originals: Mapping[Any, Levels]) -> Cell:
    lines: list[Line] = [("as stored", _INK), (_named(row), _GREY)]
    pixels = originals.get(row.id)
    size = [] if pixels is None else [(f"{pixels.shape[0]} x {pixels.shape[1]} pixels", _GREY)]
    return pixels, lines + size


def _cell(row: Row, *, alone: bool = False) -> Cell:
    head = (_named(row) if alone else f"epoch {row.epoch}") + (f": {row.label}" if row.label else "")
    if row.pixels is None:
        return None, [(head, _INK), ("not in this epoch", _GREY)]
    return row.pixels, [(head, _INK), *((str(one), _GREY) for one in row.operations)]


def _named(row: Row) -> str:
    parts = [] if row.id is None else [f"image {row.id}"]
    return ", ".join([*parts, row.name] if row.name else parts)


def _wrapped(cell: Cell, font: Font, width: int) -> Cell:
    pixels, lines = cell
    return pixels, [(part, ink) for text, ink in lines for part in _wrap(text, font, width)]


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """The text in lines of at most `width` pixels; a word that is longer is cut."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        lines += [line] if line else []
        while font.getlength(word) > width:
            word = word[:-2] + "…" if len(word) > 2 else word[:1]
        line = word
    return [*lines, line] if line else lines


def _draw_cell(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    cell: Cell,
    room: tuple[int, int],
    font: Font,
) -> None:
    """room: the width and the height that the images of the line take."""
    (left, top), (width, height), (pixels, lines) = place, room, cell
    if pixels is None:
        pen.rectangle((left, top, left + width - 1, top + height - 1), outline=_GREY)
    else:
        sheet.paste(as_shown(pixels, width), place)
    for number, (text, ink) in enumerate(lines):
        pen.text((left, top + height + 2 + number * _LINE), text, fill=ink, font=font)
