"""What `loader.preview()` returns: rows, and ways to look at them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fastpipe.errors import ArgumentError
from fastpipe.loader.preview.page import fragment, page
from fastpipe.loader.preview.row import Levels, Row
from fastpipe.loader.preview.sheet import draw_sheet
from fastpipe.system.output import printable

__all__ = ["Preview", "check_output"]

_PAGES = (".html", ".htm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """Images as the model will see them; a notebook shows it by itself.

    rows:      one for each image and epoch, the epochs of an image in a row.
    title:     what is shown. notes: what the reader must know, such as why no operations are known.
    originals: uint8 [H,W,3] as stored, by id; empty for what is not lifted.
    """

    rows: tuple[Row, ...]
    title: str
    notes: tuple[str, ...] = ()
    originals: Mapping[Any, Levels] = field(default_factory=dict)

    @property
    def image(self) -> Image.Image:
        """The sheet as an RGB picture."""
        return draw_sheet(self.rows, self.originals, self.title, self.notes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a picture in the format of the suffix (.jpg, .png, ...), or a page (.html).

        Raises ArgumentError for a suffix that Pillow does not know, and for a place that cannot be written.
        """
        place = Path(path)
        check_output(place)
        try:
            if place.suffix.lower() in _PAGES:
                place.write_text(printable(page(self.rows, self.title, self.notes)), encoding="utf-8")
            else:
                self.image.save(place)
        except OSError as error:
            raise _unwritable(place, error.strerror or str(error)) from error

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()

    def _repr_html_(self) -> str:
        return fragment(self.rows, self.title, self.notes)


def check_output(place: Path) -> None:
    """Raise ArgumentError for a file name of another kind, and for a folder that is not there."""
    known = Image.registered_extensions()
    if place.suffix.lower() not in _PAGES and known.get(place.suffix.lower()) not in Image.SAVE:
        raise ArgumentError(
            f"the name of a preview must end in .jpg, .png, another suffix of Pillow, or .html. "
            f"Found: {str(place)!r}"
        )
    if not place.parent.is_dir():
        raise _unwritable(place, f"{str(place.parent)!r} is no folder")


def _unwritable(place: Path, reason: str) -> ArgumentError:
    return ArgumentError(f"a preview must go to a file that can be written. Found: {str(place)!r} ({reason})")
