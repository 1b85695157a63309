"""Converts one image file to the bytes that a `.beton` stores for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from fastpipe.broken import decoding, described
from fastpipe.errors import ArgumentError, SampleError
from fastpipe.storage.beton.format import JPEG, MAX_SIDE, RAW
from fastpipe.storage.jpeg import jpeg_facts

_QUALITY = 90  # FFCV's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How images are stored. With the defaults, JPEG files keep their bytes and all others become raw.

    max_resolution: larger images are shrunk to this longer side, in pixels, and become JPEG; smaller JPEG
    files
                    keep their bytes.
    quality:        every image becomes a JPEG of this quality, 1 to 100 (if it is not given and a JPEG must
    be
                    made, 90).
    raw:            every image becomes raw RGB.
    proportion:     this share of the images, drawn by `seed` and id, is stored as JPEG, the rest as raw RGB.
    """

    max_resolution: int | None = None
    quality: int | None = None
    raw: bool = False
    proportion: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_resolution is not None and not 1 <= self.max_resolution <= MAX_SIDE:
            raise ArgumentError(f"max_resolution must be in 1..{MAX_SIDE}. Found: {self.max_resolution}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ArgumentError(f"quality must be in 1..100. Found: {self.quality}")
        if self.proportion is not None and not 0 <= self.proportion <= 1:
            raise ArgumentError(f"proportion must be in 0..1. Found: {self.proportion}")
        if self.raw and (self.quality is not None or self.proportion is not None):
            raise ArgumentError("raw stores no JPEG: leave out quality and proportion, or raw")

    @property
    def keeps_bytes(self) -> bool:
        """Whether JPEG files may keep their bytes."""
        return self.quality is None and not self.raw

    def wants_raw(self, i: int) -> bool:
        """Whether image i is stored raw."""
        if self.proportion is None:
            return self.raw
        return bool(np.random.default_rng((self.seed, i)).random() >= self.proportion)

    @property
    def makes_jpeg(self) -> bool:
        """Whether decoded images become JPEG; with the defaults nothing is compressed again."""
        chosen = (self.max_resolution, self.quality, self.proportion)
        return not self.raw and any(one is not None for one in chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """mode: JPEG or RAW; size in pixels; the bytes; kept: whether they are the file's own."""

    mode: int
    height: int
    width: int
    data: bytes
    kept: bool


def encode_file(path: str, i: int, encoding: Encoding) -> Encoded:
    """What is stored for image i at `path`. EXIF orientation is not applied, as in FFCV and ImageFolder.

    SampleError names the file and says why it cannot be read or stored.
    """
    broken = partial(_unstorable, path, i)
    try:
        with open(path, "rb") as file:
            data = file.read()
        if not data:
            raise ValueError("the file is empty")
        return _encode(data, i, encoding, broken)
    except SampleError:
        raise
    except (OSError, ValueError) as err:
        raise broken(err) from err


def _unstorable(path: str, i: int, error: Exception) -> SampleError:
    reason = f"the image {path!r} cannot be stored: {described(error)}"
    return SampleError(reason, path=path, sample_id=i)


def _encode(data: bytes, i: int, encoding: Encoding, broken: Callable[[Exception], SampleError]) -> Encoded:
    wants_raw = encoding.wants_raw(i)
    if encoding.keeps_bytes and not wants_raw:
        facts = jpeg_facts(data)
        limit = encoding.max_resolution
        if facts is not None and (limit is None or max(facts.height, facts.width) <= limit):
            return Encoded(mode=JPEG, height=facts.height, width=facts.width, data=data, kept=True)
    with decoding(broken), Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    if encoding.max_resolution is not None:
        image = _shrunk(image, encoding.max_resolution)
    if max(image.size) > MAX_SIDE:
        raise ValueError(f"{image.height} x {image.width} pixels; a .beton allows at most {MAX_SIDE} a side")
    if wants_raw or not encoding.makes_jpeg:
        return Encoded(mode=RAW, height=image.height, width=image.width, data=image.tobytes(), kept=False)
    stream = io.BytesIO()
    quality = _QUALITY if encoding.quality is None else encoding.quality
    image.save(stream, "JPEG", quality=quality)
    return Encoded(mode=JPEG, height=image.height, width=image.width, data=stream.getvalue(), kept=False)


def _shrunk(image: Image.Image, limit: int) -> Image.Image:
    """The longer side becomes `limit`; sizes are truncated to whole pixels, as in FFCV's writer."""
    longest = max(image.size)
    if longest <= limit:
        return image
    size = (max(1, image.width * limit // longest), max(1, image.height * limit // longest))
    # Lanczos keeps more detail than the area mean of FFCV's writer; the crop's resize follows anyway.
    return image.resize(size, Image.Resampling.LANCZOS)
