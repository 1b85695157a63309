"""A `.beton` file as a torch Dataset with the interface of an image folder."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy.typing as npt
from PIL import Image

from fastpipe.broken import decoding, described
from fastpipe.errors import SampleError
from fastpipe.storage.beton.file import Beton
from fastpipe.storage.beton.format import RAW
from fastpipe.storage.face import FolderFace

__all__ = ["BetonDataset"]


def decode_sample(beton: Beton, i: int) -> Image.Image:
    """Image i as RGB: Pillow's pixels for a JPEG, the stored pixels for a raw image. Raises SampleError."""
    height, width = int(beton.heights[i]), int(beton.widths[i])
    data = beton.encoded(i)
    if beton.modes[i] == RAW:
        return Image.frombytes("RGB", (width, height), data)
    with decoding(partial(_broken, beton, i)):
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        if image.size != (width, height):
            raise ValueError(
                f"the JPEG is {image.height} x {image.width} pixels (height x width), "
                f"but the table says {height} x {width}"
            )
        if image.mode != "RGB":
            return image.convert("RGB")
        image.load()
        return image


def _broken(beton: Beton, i: int, error: Exception) -> SampleError:
    name = beton.names[i]
    return SampleError(
        f"sample {i} of {beton.path!r} ({name!r}) cannot be decoded: {described(error)}. Write it again, or "
        f'pass on_error="skip" or on_error="replace" to the DataLoader',
        path=name,
        sample_id=i,
    )


class BetonDataset(FolderFace):
    """Images and labels of a `.beton` file, in the same form as those of a FolderDataset.

    `samples[i]` is (name, label): the name in the original folder, or "PATH#i" in a file of stock FFCV.
    image_field, label_field: as for `Beton`, for files with several. beton: one that is already open.
    Raises what `Beton` raises; reading an item raises SampleError. Safe under fork and spawn.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        image_field: str | None = None,
        label_field: str | None = None,
        beton: Beton | None = None,
    ) -> None:
        if beton is None:
            beton = Beton(path, image_field=image_field, label_field=label_field)
        self.beton = beton
        super().__init__(self.beton.classes, transform, target_transform)
        self.root = self.beton.path

    def __len__(self) -> int:
        return len(self.beton)

    def _name(self, index: int) -> str:
        return self.beton.names[index]

    def _label(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.beton.path!r}")
        return int(self.beton.labels[index])

    def _labels(self) -> npt.NDArray[Any]:
        return self.beton.labels

    def rgb(self, index: int) -> Image.Image:
        """Image `index` decoded to RGB, before any transform. Raises SampleError."""
        return decode_sample(self.beton, index)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index < 0:
            index += len(self)
        image: Any = self.rgb(index)
        target: Any = int(self.beton.labels[index])
        return self._transformed(image, target)
