from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

LONG_AGO_NS = 10**18


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FASTPIPE_CACHE", str(folder))
    return folder


@pytest.fixture
def rest() -> Callable[[Path], None]:
    """Make a tree look as if nobody had touched it for years, so that its cache may be believed at once."""

    def age(root: Path) -> None:
        for folder, _, _ in os.walk(root):
            os.utime(folder, ns=(LONG_AGO_NS, LONG_AGO_NS))

    return age


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of real JPEGs and PNGs of different sizes."""
    root = tmp_path / "photos"
    for k, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (10 + i, 20 + k), (40 * i, 90 * k, 7)).save(root / name / f"{i}.jpg")
    Image.new("L", (5, 6), 77).save(root / "bee" / "grey.PNG")
    return root


class StockBeton(NamedTuple):
    """A file laid out as FFCV's writer lays it out, made here field by field, and what was put in."""

    path: Path
    images: list[np.ndarray]
    payloads: list[bytes]
    labels: list[int]


@pytest.fixture
def stock_beton(tmp_path: Path) -> StockBeton:
    """Image, label, float and bytes fields; JPEG and raw images in turn; two pages, samples out of order."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 255, (20 + i, 30 - i, 3), np.uint8) for i in range(6)]
    payloads = [image.tobytes() for image in images]
    for i in (0, 2, 4):
        stream = io.BytesIO()
        Image.fromarray(images[i]).save(stream, "JPEG", quality=95)
        payloads[i] = stream.getvalue()
        images[i] = np.asarray(Image.open(stream).convert("RGB"))
    labels = [2, 0, 1, 2, 2, 0]
    page, rows_start, row = 1 << 21, 24 + 4 * 1041, 48
    data_start = page
    pointers, allocations, end = {}, [], data_start
    for i in (1, 0, 2, 5, 4, 3):
        if i == 5:
            end = data_start + page
        allocations.append((i, end, 0))  # the bytes field, empty: it shares the image's address
        allocations.append((i, end, len(payloads[i])))
        pointers[i] = end
        end += len(payloads[i])
    table = data_start + 2 * page
    content = bytearray(table)
    struct.pack_into("<HHIQQ", content, 0, 2, 4, page, 6, table)
    for k, (kind, name) in enumerate(((3, b"blob"), (2, b"image"), (1, b"label"), (0, b"a_name_of_16_let"))):
        struct.pack_into("<B16s", content, 24 + 1041 * k, kind, name)
    for i in range(6):
        at = rows_start + i * row
        struct.pack_into("<QQ", content, at, pointers[i], 0)
        height, width = images[i].shape[:2]
        struct.pack_into("<BHHQ", content, at + 16, i % 2, width, height, pointers[i])
        struct.pack_into("<qd", content, at + 32, labels[i], 0.5)
        content[pointers[i] : pointers[i] + len(payloads[i])] = payloads[i]
    content += b"".join(struct.pack("<QQQ", *entry) for entry in allocations)
    path = tmp_path / "stock.beton"
    path.write_bytes(content)
    return StockBeton(path, images, payloads, labels)
