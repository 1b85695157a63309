"""The baseline decoder at its seams: crop edges, restart markers, the IDCT's overflows, what it hands over.

Files of every kind against Pillow: test_turbo_differential.py.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastpipe.decode.jpeg_writer import Layout, write

turbo = pytest.importorskip("fastpipe._turbo", reason="the native module is not built: pip install -e .")

Pixels = npt.NDArray[np.uint8]
DONE, PROCESS, SCANS, IRREGULAR, TRUNCATED, TOO_LARGE, CROP = 0, 4, 6, 8, 9, 10, 11


@pytest.fixture(params=("scalar", "best"), autouse=True)
def simd(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test with scalar code and with the best that the machine has."""
    used = turbo.used_simd()
    if request.param == "best" and turbo.best_simd() == 0:
        pytest.skip("no SIMD code for this machine")
    turbo.use_simd(turbo.best_simd() if request.param == "best" else 0)
    yield
    turbo.use_simd(used)


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Every sample differs from its neighbours: a wrong neighbour is seen."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(pixels: Pixels, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def check_crops(data: bytes, boxes: Iterator[tuple[int, int, int, int]]) -> None:
    whole = by_pillow(data)
    for left, top, width, height in boxes:
        status, crop = turbo.decode(data, (left, top, width, height))
        assert status == DONE
        np.testing.assert_array_equal(
            crop, whole[top : top + height, left : left + width], err_msg=f"{left, top, width, height}"
        )


@pytest.mark.parametrize("factors", ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4)))
def test_every_edge_of_a_crop(factors: tuple[int, int]) -> None:
    """Upsampling takes samples from outside the crop, and repeats one only at the edge of the image."""
    data = write(noise(45, 53), Layout(sampling=(factors, (1, 1), (1, 1)), quality=95))
    columns = [(left, width) for left in range(0, 53, 3) for width in (1, 2, 9, 17) if left + width <= 53]
    columns += [(left, 53 - left) for left in range(53)]
    check_crops(data, ((left, 5, width, 7) for left, width in columns))
    rows = [(top, height) for top in range(0, 45, 2) for height in (1, 2, 9, 17) if top + height <= 45]
    rows += [(top, 45 - top) for top in range(45)]
    check_crops(data, ((4, top, 11, height) for top, height in rows))


@pytest.mark.parametrize("factors", ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1)))
def test_narrow_images(factors: tuple[int, int]) -> None:
    """libjpeg interpolates only where a line has more than two chroma samples."""
    for height, width in itertools.product(range(1, 10), repeat=2):
        layout = Layout(sampling=(factors, (1, 1), (1, 1)), quality=90)
        data = write(noise(height, width, height), layout)
        check_crops(data, iter([(0, 0, width, height), (width // 2, height // 2, width - width // 2, 1)]))


def segment_of(marker: int, data: bytes) -> int:
    """Where the content of a segment starts."""
    return data.index(bytes((0xFF, marker))) + 4


def with_quantisation(data: bytes, tables: npt.NDArray[np.int64]) -> bytes:
    """The file with 16-bit tables, int [tables,64], in place of its own."""
    start = data.index(b"\xff\xdb")
    end = data.index(b"\xff\xc0")
    parts = b"".join(
        struct.pack(">BBHB64H", 0xFF, 0xDB, 131, 0x10 | n, *table.tolist()) for n, table in enumerate(tables)
    )
    return data[:start] + parts + data[end:]


@pytest.mark.parametrize("most", (300, 2000, 20000, 65535))
def test_overflow_in_the_idct(most: int) -> None:
    """Large coefficients: libjpeg-turbo wraps at 16 bits in one place and saturates in another."""
    rng = np.random.default_rng(most)
    flat = np.full((16, 16, 3), 255, np.uint8)
    stripes = np.tile(np.array([0, 255], np.uint8), 8)[None, :, None].repeat(16, 0).repeat(3, 2)
    for number in range(60):
        pixels = (noise(16, 16, number), flat, stripes, stripes.swapaxes(0, 1))[number % 4]
        data = saved(np.ascontiguousarray(pixels), quality=100, subsampling=number % 3)
        data = with_quantisation(data, rng.integers(0, most + 1, (2, 64)))
        check_crops(data, iter([(0, 0, 16, 16)]))


def test_one_row_of_coefficients_wraps() -> None:
    """A block without coefficients below its first row takes a shortcut in libjpeg-turbo, which wraps."""
    stripes = np.tile(np.array([0, 0, 255, 255], np.uint8), 4)[None, :].repeat(16, 0)
    data = saved(stripes, quality=100)
    seen = set()
    for scale in range(1, 400, 7):
        changed = with_quantisation(data, np.full((1, 64), scale))
        check_crops(changed, iter([(0, 0, 16, 16)]))
        seen.add(by_pillow(changed).tobytes())
    assert len(seen) > 20


@pytest.mark.parametrize("restart", (1, 2, 3, 5, 7, 20))
@pytest.mark.parametrize("subsampling", (0, 2))
def test_restart_markers(restart: int, subsampling: int) -> None:
    data = saved(noise(70, 90), quality=80, subsampling=subsampling, restart_marker_blocks=restart)
    assert data.count(b"\xff\xd0") > 0
    check_crops(
        data, ((x, y, 90 - x, 70 - y) for x, y in itertools.product(range(0, 90, 11), range(0, 70, 9)))
    )


def test_restart_markers_out_of_order() -> None:
    data = saved(noise(64, 64), quality=80, subsampling=0, restart_marker_rows=1)
    assert turbo.decode(data)[0] == DONE
    assert turbo.decode(data.replace(b"\xff\xd1", b"\xff\xd2", 1))[0] == IRREGULAR
    at = data.index(b"\xff\xd1")
    assert turbo.decode(data[:at] + data[at + 2 :])[0] == IRREGULAR
    assert turbo.decode(data[:at] + b"\xff\xd1" + data[at:])[0] == IRREGULAR


def last_row_damaged(data: bytes) -> bytes:
    """Ones in the last bytes of the scan: there is no such code."""
    return data[:-22] + b"\xfe" * 20 + data[-2:]


def test_damage_behind_the_crop_is_not_seen() -> None:
    whole = saved(noise(64, 64), quality=80, subsampling=0)
    damaged = last_row_damaged(whole)
    assert turbo.decode(damaged)[0] == IRREGULAR
    status, crop = turbo.decode(damaged, (8, 8, 40, 40))
    assert status == DONE
    np.testing.assert_array_equal(crop, by_pillow(damaged)[8:48, 8:48])


def test_data_that_end_early() -> None:
    data = saved(noise(64, 64), quality=80, subsampling=0)
    short = data[: len(data) * 2 // 3].rstrip(b"\xff")
    assert turbo.decode(short)[0] == TRUNCATED
    assert turbo.decode(short + b"\xff\xd9")[0] == IRREGULAR
    assert turbo.decode(short + b"\xff\xd9", (0, 0, 64, 8))[0] == DONE
    assert turbo.decode(data[:-2])[0] == TRUNCATED
    assert turbo.decode(data[:-2] + b"\xff\xdc\x00\x04\x00\x40\xff\xd9")[0] == IRREGULAR


def huffman_start(data: bytes) -> int:
    return data.index(b"\xff\xc4")


@pytest.mark.parametrize("dimension", (0, 65501))
def test_sizes_that_libjpeg_refuses(dimension: int) -> None:
    data = bytearray(saved(noise(8, 8)))
    at = segment_of(0xC0, bytes(data))
    data[at + 1 : at + 3] = struct.pack(">H", dimension)
    assert turbo.decode(bytes(data))[0] == IRREGULAR


def test_headers_that_are_handed_over() -> None:
    data = saved(noise(24, 24), quality=80)
    frame, scan = segment_of(0xC0, data), segment_of(0xDA, data)

    def changed(at: int, value: int) -> int:
        return int(turbo.decode(data[:at] + bytes([value]) + data[at + 1 :])[0])

    assert changed(frame - 3, 0xC9) == PROCESS  # arithmetic
    assert changed(frame - 3, 0xC3) == PROCESS  # lossless
    assert changed(frame, 12) == PROCESS  # 12 bit
    assert changed(frame + 7, 0x50) == IRREGULAR  # a factor of 5, and one of 0
    assert changed(frame + 8, 9) == IRREGULAR  # no such table
    assert changed(frame + 9, data[frame + 6]) == IRREGULAR  # two components of one name
    assert changed(scan + 1, 77) == IRREGULAR  # no such component
    assert changed(scan + 2, 0x33) == IRREGULAR  # tables that are not there
    assert changed(scan + 8, 5) == IRREGULAR  # a band of coefficients
    without_tables = data[: huffman_start(data)] + data[scan - 4 :]
    assert turbo.decode(without_tables)[0] == IRREGULAR  # libjpeg takes the standard's
    assert turbo.decode(data, None, 24 * 24 - 1)[0] == TOO_LARGE
    assert turbo.decode(data, None, 24 * 24)[0] == DONE
    for box in ((-1, 0, 3, 3), (0, 0, 25, 3), (20, 0, 5, 1), (0, 24, 1, 1), (0, 0, 0, 1)):
        assert turbo.decode(data, box)[0] == CROP


@pytest.mark.parametrize("table", range(4))
def test_huffman_tables_that_libjpeg_refuses(table: int) -> None:
    """A code of ones alone; a DC symbol above 15. Pillow refuses them too."""
    data = saved(noise(24, 24), quality=80)
    at = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xc4"][table] + 5
    counts = list(data[at : at + 16])
    counts[0] += 2
    counts[next(n for n in range(15, 0, -1) if counts[n] >= 2)] -= 2
    broken = [data[:at] + bytes(counts) + data[at + 16 :]]
    if data[at - 1] < 0x10:
        broken.append(data[: at + 16] + b"\x10" + data[at + 17 :])
    for file in broken:
        assert turbo.decode(file)[0] == IRREGULAR
        with pytest.raises(OSError):
            by_pillow(file)


def test_several_scans() -> None:
    """A baseline file whose components come one after the other."""
    data = saved(noise(16, 16), subsampling=0)
    scan = data.index(b"\xff\xda")
    first = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    assert turbo.decode(data[:scan] + first + data[scan + 14 :])[0] == SCANS
