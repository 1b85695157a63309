"""Writes JPEGs that Pillow cannot write: any sampling, any scans. For tests and checks: slow.

`write(picture, Layout(sampling=((4, 1), (1, 1), (1, 1)), restart=3))` is a whole file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fastpipe.decode import jpeg_entropy as entropy
from fastpipe.decode.jpeg_entropy import Scan, Symbol, Table
from fastpipe.decode.jpeg_tables import STANDARD, ZIGZAG, quantisation

__all__: list[str] = []

Pixels = npt.NDArray[np.uint8]
Blocks = list[list[list[int]]]  # of one component: rows of blocks of 64 values in zigzag order

JFIF: Final = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
ADOBE_RGB: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a picture is coded. One sampling factor: grey; three: YCbCr, or RGB where `ycc` is false."""

    sampling: tuple[tuple[int, int], ...] = ((1, 1), (1, 1), (1, 1))  # horizontal, vertical
    quality: int = 90
    restart: int = 0  # MCUs from marker to marker
    optimised: bool = False  # Huffman tables from the file's own symbols
    scans: tuple[Scan, ...] = ()  # a progressive file; none: a baseline one
    ids: tuple[int, ...] = (1, 2, 3)
    ycc: bool = True
    head: bytes = JFIF  # behind the start marker


def simple_scans(components: int) -> tuple[Scan, ...]:
    """libjpeg's own script, which Pillow writes too (jcparam.c, jpeg_simple_progression)."""
    everything = tuple(range(components))
    chroma = [Scan((c,), 1, 63, high, low) for high, low in ((0, 1), (1, 0)) for c in everything[:0:-1]]
    return (
        Scan(everything, 0, 0, 0, 1),
        Scan((0,), 1, 5, 0, 2),
        *chroma[: components - 1],
        Scan((0,), 6, 63, 0, 2),
        Scan((0,), 1, 63, 2, 1),
        Scan(everything, 0, 0, 1, 0),
        *chroma[components - 1 :],
        Scan((0,), 1, 63, 1, 0),
    )


def write(picture: Pixels, layout: Layout) -> bytes:
    """A JPEG of a picture, uint8 [H,W,3]."""
    height, width = picture.shape[:2]
    tables = quantisation(layout.quality)
    planes = enumerate(_planes(picture, layout))
    blocks = [_blocks(plane, layout.sampling[c], tables[min(c, 1)]) for c, plane in planes]
    factors = enumerate(layout.sampling)
    frame = b"".join(bytes((layout.ids[c], h << 4 | v, min(c, 1))) for c, (h, v) in factors)
    data = b"\xff\xd8" + layout.head
    data += b"".join(_segment(0xDB, bytes([number]) + table) for number, table in enumerate(tables))
    data += _segment(
        0xC2 if layout.scans else 0xC0, struct.pack(">BHHB", 8, height, width, len(layout.sampling)) + frame
    )
    if layout.restart:
        data += _segment(0xDD, struct.pack(">H", layout.restart))
    baseline = Scan(tuple(range(len(layout.sampling))), 0, 63, 0, 0)
    for scan in layout.scans or (baseline,):
        data += _scan(blocks, (height, width), layout, scan)
    return data + b"\xff\xd9"


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _most(layout: Layout) -> tuple[int, int]:
    return max(h for h, _ in layout.sampling), max(v for _, v in layout.sampling)


def _planes(picture: Pixels, layout: Layout) -> Iterator[npt.NDArray[np.float64]]:
    """The components, made smaller by leaving samples out."""
    levels = picture.astype(np.float64)
    if len(layout.sampling) == 1:
        levels = levels.mean(axis=2, keepdims=True)
    elif layout.ycc:
        red, green, blue = np.moveaxis(levels, 2, 0)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        levels = np.stack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], axis=2)
    most_h, most_v = _most(layout)
    for c, (h, v) in enumerate(layout.sampling):
        rows = np.arange(-(-picture.shape[0] * v // most_v)) * most_v // v
        columns = np.arange(-(-picture.shape[1] * h // most_h)) * most_h // h
        yield levels[rows][:, columns, c]


def _cosines() -> npt.NDArray[np.float64]:
    frequency, at = np.mgrid[0:8, 0:8]
    matrix: npt.NDArray[np.float64] = np.cos((2 * at + 1) * frequency * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix


def _blocks(plane: npt.NDArray[np.float64], factors: tuple[int, int], table: bytes) -> Blocks:
    """Quantised blocks, as many as whole MCUs have."""
    h, v = factors
    padding = [(0, -size % (8 * factor)) for size, factor in zip(plane.shape, (v, h), strict=True)]
    whole = np.pad(plane, padding, mode="edge") - 128
    rows, columns = whole.shape[0] // 8, whole.shape[1] // 8
    tiles = whole.reshape(rows, 8, columns, 8).swapaxes(1, 2)
    cosines = _cosines()
    levels = (cosines @ tiles @ cosines.T).reshape(rows, columns, 64)[..., ZIGZAG]
    quantised: Blocks = np.rint(levels / np.frombuffer(table, np.uint8)).astype(int).tolist()
    return quantised


def _units(
    blocks: Sequence[Blocks], size: tuple[int, int], layout: Layout, scan: Scan
) -> Iterator[list[tuple[int, list[int]]]]:
    """The MCUs of a scan: component and block. A scan of one component has no blocks of padding."""
    most_h, most_v = _most(layout)
    if len(scan.components) == 1:
        (c,) = scan.components
        h, v = layout.sampling[c]
        rows, columns = -(-size[0] * v // (8 * most_v)), -(-size[1] * h // (8 * most_h))
        yield from ([(c, block)] for row in blocks[c][:rows] for block in row[:columns])
        return
    for y in range(-(-size[0] // (8 * most_v))):
        for x in range(-(-size[1] // (8 * most_h))):
            yield [
                (c, block)
                for c in scan.components
                for row in blocks[c][y * layout.sampling[c][1] :][: layout.sampling[c][1]]
                for block in row[x * layout.sampling[c][0] :][: layout.sampling[c][0]]
            ]


def _interval(units: Sequence[list[tuple[int, list[int]]]], layout: Layout, scan: Scan) -> list[Symbol]:
    """The symbols between two restart markers."""
    found: list[Symbol] = []
    predicted = dict.fromkeys(scan.components, 0)
    band = entropy.Band(scan, min(scan.components[0], 1))
    for c, block in (entry for unit in units for entry in unit):
        if scan.high and not scan.first:
            found.append(Symbol(None, 0, str(block[0] >> scan.low & 1)))
        elif not scan.first:
            found.append(entropy.dc_symbol(min(c, 1), block[0] >> scan.low, predicted[c]))
            predicted[c] = block[0] >> scan.low
        if not layout.scans:
            found += entropy.ac_symbols(min(c, 1), block)
        elif scan.first:
            found += band.block(block)
    return found + band.flush()


def _scan(blocks: Sequence[Blocks], size: tuple[int, int], layout: Layout, scan: Scan) -> bytes:
    """Huffman tables, the scan's header and its data."""
    units = list(_units(blocks, size, layout, scan))
    step = layout.restart or len(units)
    intervals = [_interval(units[at : at + step], layout, scan) for at in range(0, len(units), step)]
    used = [symbol for interval in intervals for symbol in interval]
    tables = sorted({symbol.table for symbol in used if symbol.table})
    data, codes = b"", {}
    for key in tables:
        lengths = _lengths(key, used, layout)
        data += _huffman(key, lengths)
        codes[key] = entropy.canonical(lengths)
    numbers = b"".join(bytes((layout.ids[c], min(c, 1) * 0x11)) for c in scan.components)
    band = bytes((scan.first, scan.last, scan.high << 4 | scan.low))
    data += _segment(0xDA, bytes([len(scan.components)]) + numbers + band)
    for number, interval in enumerate(intervals):
        restart = bytes((0xFF, 0xD0 + (number - 1) % 8)) if number else b""
        data += restart + entropy.packed(interval, codes)
    return data


def _lengths(key: Table, used: Sequence[Symbol], layout: Layout) -> dict[int, int]:
    if layout.optimised or layout.scans:
        return entropy.code_lengths(symbol.value for symbol in used if symbol.table == key)
    counts, symbols = STANDARD[key][:16], STANDARD[key][16:]
    return dict(zip(symbols, (size + 1 for size, n in enumerate(counts) for _ in range(n)), strict=True))


def _huffman(key: Table, lengths: dict[int, int]) -> bytes:
    order = sorted(lengths, key=lambda value: lengths[value])
    counts = bytes(sum(length == size for length in lengths.values()) for size in range(1, 17))
    return _segment(0xC4, bytes([(key[0] == "ac") << 4 | key[1]]) + counts + bytes(order))
