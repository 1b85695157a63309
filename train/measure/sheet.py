"""The most certain mistakes as one picture: each image with its label, the answer and its probability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from fastpipe.errors import ArgumentError, SampleError
from fastpipe.system.files import replace_file
from fastpipe.system.outputs import unwritable
from fastpipe.train.evaluate import Evaluated
from fastpipe.train.measure.mistakes import picture_of
from fastpipe.train.splits import Images

COLUMNS = 6
_SIDE, _GAP, _LINE = 180, 12, 17  # pixels
_WIDTH = _SIDE + _GAP
_TEXT = 3 * _LINE + 2 * _GAP  # below a picture
_HEAD = 34
_PAPER, _INK, _SOFT, _WRONG = "#ffffff", "#16191d", "#59636e", "#c2263f"


class Tile(NamedTuple):
    """A place of the sheet; no picture: the image cannot be read any more."""

    picture: Image.Image | None
    mistake: Mapping[str, Any]


def write_sheet(found: Evaluated, path: str) -> None:
    """Draw the mistakes of the reported weights into a .jpg or .png.

    Raises ArgumentError if the file cannot be written, or if the labels are not classes.
    """
    if any("mistakes" not in record for record in found.reported.values()):
        raise ArgumentError("--sheet shows images taken for another class. Found: a model without classes")
    bands = [
        (f"{name}: {_title(record)}", tiles_of(found.splits[name], record["mistakes"]))
        for name, record in found.reported.items()
    ]
    kind = "PNG" if Path(path).suffix.lower() == ".png" else "JPEG"
    try:
        replace_file(path, lambda file: draw_sheet(bands).save(file, kind, quality=90))
    except OSError as error:
        raise unwritable("--sheet", path, error) from error


def _title(record: Mapping[str, Any]) -> str:
    shown, wrong = len(record["mistakes"]), round(record["images"] * (1 - record["top1"]))
    if not wrong:
        return f"no mistake among {record['images']} images"
    return f"the {shown} most certain of {wrong} mistakes among {record['images']} images"


def tiles_of(images: Images, mistakes: Sequence[Mapping[str, Any]]) -> list[Tile]:
    """The mistakes with their pictures, each at most 180 x 180 pixels."""
    return [Tile(_picture(images, one["id"]), one) for one in mistakes]


def _picture(images: Images, sample_id: int) -> Image.Image | None:
    try:
        return picture_of(images, sample_id, _SIDE)
    except SampleError:
        return None


def draw_sheet(bands: Sequence[tuple[str, Sequence[Tile]]]) -> Image.Image:
    """The bands below each other, each with its title and six tiles in a row."""
    tall = max((one.picture.height for _, tiles in bands for one in tiles if one.picture), default=_LINE)
    cell = tall + _TEXT
    heights = [_HEAD + -(-len(tiles) // COLUMNS) * cell for _, tiles in bands]
    sheet = Image.new("RGB", (COLUMNS * _WIDTH + _GAP, sum(heights) + _GAP), _PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    for (title, tiles), height in zip(bands, heights, strict=True):
        draw.text((_GAP, top + 10), title, _INK, ImageFont.load_default(16))
        for place, tile in enumerate(tiles):
            left = _GAP + place % COLUMNS * _WIDTH
            _draw_tile(sheet, draw, tile, left, top + _HEAD + place // COLUMNS * cell + tall)
        top += height
    return sheet


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, base: int) -> None:
    """A picture that stands on the line `base`, and its text below."""
    if tile.picture is None:
        draw.text((left, base - _LINE), "cannot be read any more", _SOFT, ImageFont.load_default(13))
    else:
        sheet.paste(tile.picture, (left, base - tile.picture.height))
    for row, (text, colour) in enumerate(_captions(tile.mistake)):
        draw.text((left, base + 4 + row * _LINE), text, colour, ImageFont.load_default(13))


def _captions(mistake: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield _cut(mistake["label"], "", before="is "), _INK
    yield _cut(mistake["predicted"], f"  {mistake['probability']:.3f}", before="said "), _WRONG
    yield _cut_left(mistake["path"]), _SOFT


def _width(text: str) -> float:
    return ImageFont.load_default(13).getlength(text)


def _cut(text: str, after: str, before: str = "") -> str:
    """`text` between the other two, shortened to the width of a tile."""
    if _width(before + text + after) <= _SIDE:
        return before + text + after
    while text and _width(f"{before}{text}…{after}") > _SIDE:
        text = text[:-1]
    return f"{before}{text}…{after}"


def _cut_left(text: str) -> str:
    """The end of a path, which tells files apart."""
    if _width(text) <= _SIDE:
        return text
    while text and _width(f"…{text}") > _SIDE:
        text = text[1:]
    return f"…{text}"
