"""`.beton` files laid out as FFCV lays them out, from payloads that a test chooses."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Pixels = npt.NDArray[np.uint8]
PAGE = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image of a file. mode: 0 JPEG, 1 raw. size: (height, width) that the table gives it."""

    payload: bytes
    size: tuple[int, int]
    mode: int = 0
    label: int = 0


def smooth(seed: int, height: int, width: int) -> Pixels:
    """A picture with soft structure and a little noise, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / rng.uniform(9, 30) + y / rng.uniform(9, 30)) for _ in range(3)], axis=-1)
    return np.clip(128 + 70 * waves + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, mode: str = "RGB", **options: Any) -> bytes:
    """The picture as a JPEG of quality 92."""
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "JPEG", **{"quality": 92, **options})
    return stream.getvalue()


def as_jpeg(pixels: Pixels, label: int = 0, **options: Any) -> Entry:
    return Entry(payload=jpeg(pixels, **options), size=pixels.shape[:2], label=label)


def as_raw(pixels: Pixels, label: int = 0) -> Entry:
    return Entry(payload=pixels.tobytes(), size=pixels.shape[:2], mode=1, label=label)


def write_entries(path: Path, entries: Sequence[Entry]) -> Path:
    """Two fields, image and label. Source of the layout: ffcv 1.0.2, types.py and fields/."""
    num_bytes = sum(len(entry.payload) for entry in entries)
    page = max(PAGE, 1 << (num_bytes - 1).bit_length())
    head = struct.pack("<HHIQQ", 2, 2, page, len(entries), 2 * page)
    head += struct.pack("<B16s1024x", 2, b"image") + struct.pack("<B16s1024x", 1, b"label")
    rows, data, table = b"", b"", b""
    for number, entry in enumerate(entries):
        at, (height, width) = page + len(data), entry.size
        rows += struct.pack("<BHHQ3xq", entry.mode, width, height, at, entry.label)
        table += struct.pack("<QQQ", number, at, len(entry.payload))
        data += entry.payload
    path.write_bytes((head + rows).ljust(page, b"\0") + data.ljust(page, b"\0") + table)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quarantine lists of a test stay in its folder."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What tests make files of: test modules cannot import from here."""

    folder: Path
    entry: type[Entry] = Entry
    smooth: Callable[[int, int, int], Pixels] = smooth
    jpeg: Callable[..., bytes] = jpeg
    as_jpeg: Callable[..., Entry] = as_jpeg
    as_raw: Callable[..., Entry] = as_raw

    def write(self, entries: Sequence[Entry]) -> Path:
        """A new file of these entries."""
        return write_entries(self.folder / f"{len(list(self.folder.glob('*.beton')))}.beton", entries)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(folder=tmp_path)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images of all sizes: JPEGs (a grey, a progressive, a 4:4:4 one), every fourth raw; label = id."""
    rng = np.random.default_rng(4)
    entries = []
    for number in range(20):
        pixels = smooth(number, *rng.integers(40, 110, 2).tolist())
        options = {1: {"mode": "L"}, 2: {"progressive": True}, 3: {"subsampling": 0}}.get(number, {})
        raw = number % 4 == 0
        entries.append(as_raw(pixels, number) if raw else as_jpeg(pixels, number, **options))
    return write_entries(tmp_path_factory.mktemp("mixed") / "mixed.beton", entries)
