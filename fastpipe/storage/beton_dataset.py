"""A `.beton` file as a torch Dataset, with the face of an image folder."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch.utils.data import Dataset

from fastpipe.errors import SampleError
from fastpipe.storage.beton import Beton
from fastpipe.storage.beton_format import RAW

__all__ = ["BetonDataset", "decode_sample"]

T = TypeVar("T")


def decode_sample(beton: Beton, i: int) -> Image.Image:
    """Image i as RGB: Pillow's pixels of a JPEG, the stored ones of a raw image. Raises SampleError."""
    height, width = int(beton.heights[i]), int(beton.widths[i])
    data = beton.encoded(i)
    if beton.modes[i] == RAW:
        return Image.frombytes("RGB", (width, height), data)
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        if image.size != (width, height):
            raise ValueError(
                f"the JPEG is {image.height} x {image.width} pixels (height x width), "
                f"{height} x {width} by the table"
            )
        if image.mode != "RGB":
            return image.convert("RGB")
        image.load()
        return image
    # Pillow's plug-ins raise SyntaxError, IndexError and TypeError too for files they cannot read.
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, Image.DecompressionBombError) as err:
        name = beton.names[i]
        raise SampleError(
            f"sample {i} of {beton.path!r} ({name!r}) cannot be decoded: {err}. Write it again, or pass "
            f'on_error="skip" or on_error="replace" to the DataLoader',
            path=name,
            sample_id=i,
        ) from err


class BetonDataset(Dataset[tuple[Any, Any]]):
    """Images and labels of a `.beton` file, as FolderDataset gives those of a folder.

    `samples[i]` is (name, label), the name as it was in the folder, or "PATH#i" in a file of stock FFCV.
    Raises what `Beton` raises; reading an item raises SampleError. Safe under fork and spawn.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        beton: Beton | None = None,
    ) -> None:
        self.beton = Beton(path) if beton is None else beton
        self.root = self.beton.path
        self.classes = list(self.beton.classes)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.transform = transform
        self.target_transform = target_transform

    @property
    def samples(self) -> Sequence[tuple[str, int]]:
        """(name, label) of every image."""
        return _Samples(self.beton)

    @property
    def imgs(self) -> Sequence[tuple[str, int]]:
        """The same as `samples`, under ImageFolder's other name."""
        return _Samples(self.beton)

    @property
    def targets(self) -> Sequence[int]:
        """The label of every image; `numpy.asarray` of it copies the file's int64 array."""
        return _Targets(self.beton)

    def __len__(self) -> int:
        return len(self.beton)

    def rgb(self, index: int) -> Image.Image:
        """Image `index` decoded to RGB, before any transform. Raises SampleError."""
        return decode_sample(self.beton, index)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index < 0:
            index += len(self)
        image: Any = self.rgb(index)
        target: Any = int(self.beton.labels[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __repr__(self) -> str:
        lines = [
            "Dataset BetonDataset",
            f"    Number of datapoints: {len(self)}",
            f"    Number of classes: {len(self.classes)}",
            f"    Root location: {self.root}",
        ]
        if self.transform is not None:
            lines.append(f"    Transform: {self.transform!r}".replace("\n", "\n" + " " * 15))
        if self.target_transform is not None:
            lines.append(f"    Target transform: {self.target_transform!r}".replace("\n", "\n" + " " * 22))
        return "\n".join(lines)


class _View(Sequence[T], Generic[T]):
    """A sequence over the file whose items are made when asked for; slices are lists."""

    def __init__(self, beton: Beton) -> None:
        self._beton = beton

    def _item(self, i: int) -> T:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._beton)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> list[T]: ...
    def __getitem__(self, i: int | slice) -> T | list[T]:
        if isinstance(i, slice):
            return [self._item(k) for k in range(*i.indices(len(self)))]
        return self._item(i + len(self) if i < 0 else i)


class _Samples(_View[tuple[str, int]]):
    def _item(self, i: int) -> tuple[str, int]:
        return self._beton.names[i], int(self._beton.labels[i])


class _Targets(_View[int]):
    def _item(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)} in {self._beton.path!r}")
        return int(self._beton.labels[i])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._beton.labels.astype(np.int64 if dtype is None else dtype)
