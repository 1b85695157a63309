"""The sampled images of a data set, fetched once, so that every stage can be timed alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fastpipe.decode import crop_and_resize, decode_rgb, num_uniforms, read
from fastpipe.errors import DataError, SampleError
from fastpipe.rng import Stream, permutation, uniforms
from fastpipe.storage import DEMO_NOTE, NAMED, FolderIndex, open_images, open_index, resolve
from fastpipe.storage.named import canonical_name
from fastpipe.types import Plan, Spec

_MOST_FILES, _MOST_FILES_QUICK = 256, 96
_MOST_DECODED_BYTES = 512 << 20
_FEW_FILES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One image at each stage: its path, bytes, RGB pixels, and its crop at the requested size."""

    id: int
    path: str
    data: bytes
    image: Image.Image
    draws: list[float]
    crop: Image.Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of the stages, and the specs that the device stage has in addition to the plain pass.

    `notes` holds caveats about the sample.
    """

    index: FolderIndex
    samples: tuple[Sampled, ...]
    broken: int
    notes: tuple[str, ...]
    augment: tuple[Spec, ...] = ()

    @property
    def num_classes(self) -> int:
        """The number of classes for the labels, at least 2."""
        return max(2, len(self.index.classes))

    def dataset(self, transform: Any = None) -> Any:
        """All images, as a loader takes them."""
        return open_images(self.index, transform)

    @property
    def ids(self) -> list[int]:
        """Ids of the sampled images, in the order they were drawn."""
        return [sample.id for sample in self.samples]

    def describe(self) -> dict[str, Any]:
        """The data set and the sample as plain values; sizes in bytes and pixels."""
        pixels = [sample.image.width * sample.image.height for sample in self.samples]
        return {
            "root": self.index.root,
            "files": len(self.index),
            "classes": len(self.index.classes),
            "sampled": len(self.samples),
            "broken": self.broken,
            "mean_bytes": float(np.mean([len(sample.data) for sample in self.samples])),
            "median_pixels": float(np.median(pixels)),
        }


class Cycle(torch.utils.data.Sampler[int]):
    """`num` ids in fresh random order, over and over: an epoch of any length on the sampled files."""

    def __init__(self, ids: list[int], num: int) -> None:
        self._ids = ids
        self._num = num
        self._passes = 0

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[int]:
        left = self._num
        while left > 0:
            self._passes += 1
            order = permutation(0, self._passes, len(self._ids))[:left]
            yield from (self._ids[place] for place in order.tolist())
            left -= len(order)


def open_train_index(data: str) -> tuple[FolderIndex, tuple[str, ...]]:
    """The index of the training images of `data`, and notes.

    "demo", a name, a folder with train/, or a plain folder of classes. Raises what
    `fastpipe.storage.resolve` and `open_index` raise.
    """
    notes = []
    if canonical_name(data) in ("demo", *NAMED):
        notes = [DEMO_NOTE] if canonical_name(data) == "demo" else []
        return open_index(resolve(data).train), tuple(notes)
    folder = Path(data).expanduser()
    if (folder / "train").is_dir():
        return open_index(folder / "train"), ()
    if folder.is_dir():
        return open_index(folder), ()
    return open_index(resolve(data).train), ()


def fetch(data: str, plan: Plan, *, seconds: float, quick: bool, augment: tuple[Spec, ...] = ()) -> Inputs:
    """Draw files at random (always the same ones), then read, decode and crop each.

    Stops at 256 files (96 when quick), 512 MiB of pixels, or after `seconds` and 32 files. Files that cannot
    be decoded are counted and left out. Raises DataError when none can.
    """
    index, notes = open_train_index(data)
    most = _MOST_FILES_QUICK if quick else _MOST_FILES
    end_s = time.perf_counter() + seconds
    samples: list[Sampled] = []
    errors: list[SampleError] = []
    decoded_bytes = 0
    for sample_id in permutation(0, 0, len(index))[:most].tolist():
        try:
            samples.append(_sample(index, sample_id, plan))
        except SampleError as error:
            errors.append(error)
            continue
        decoded_bytes += 3 * samples[-1].image.width * samples[-1].image.height
        enough = len(samples) + len(errors) >= _FEW_FILES
        if decoded_bytes > _MOST_DECODED_BYTES or (enough and time.perf_counter() > end_s):
            break
    if not samples:
        raise DataError(f"none of {len(errors)} sampled files can be decoded. The first: {errors[0]}")
    return Inputs(
        index=index,
        samples=tuple(samples),
        broken=len(errors),
        notes=(*notes, *_notes(len(index), errors)),
        augment=augment,
    )


def _sample(index: FolderIndex, sample_id: int, plan: Plan) -> Sampled:
    path = index.path(sample_id)
    data = read(path)
    image = decode_rgb(data, path)
    one = np.array([sample_id], dtype=np.int64)
    draws = uniforms(0, 0, one, np.zeros_like(one), Stream.CROP, num_uniforms(plan.decode))[0].tolist()
    crop = crop_and_resize(image, plan.decode, draws)
    return Sampled(id=sample_id, path=path, data=data, image=image, draws=draws, crop=crop)


def _notes(files: int, errors: list[SampleError]) -> list[str]:
    notes = []
    if files < _FEW_FILES:
        notes.append(
            f"The data set has only {files} files, read over and over: too few to be representative."
        )
    if errors:
        notes.append(f"{len(errors)} sampled files cannot be decoded and were left out. First: {errors[0]}")
    return notes
