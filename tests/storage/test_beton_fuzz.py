"""Mutated headers and tables: a clear DataError or a file that can be read, never anything else."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpipe.errors import DataError, SampleError
from fastpipe.storage import BetonDataset, write_beton

ROWS = 24 + 2 * 1041
ARGUMENTS = 24 + 17  # of the first field: where our own section lies
INTERESTING = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 63, (1 << 64) - 1)


def read_all(path: Path) -> bool:
    """Whether the file could be opened; every image of it is then decoded, and its names read."""
    try:
        dataset = BetonDataset(path)
    except DataError as error:
        assert str(path) in str(error)
        return False
    data = dataset.beton.data()
    for i in range(len(dataset)):
        start, size = int(dataset.beton.pointers[i]), int(dataset.beton.lengths[i])
        assert start + size <= len(data) and len(dataset.beton.encoded(i)) == size
        assert isinstance(dataset.samples[i][0], str)
        try:
            assert dataset.rgb(i).size == (dataset.beton.widths[i], dataset.beton.heights[i])
        except SampleError as error:
            assert error.sample_id == i
    return True


def mutate(content: bytes, regions: list[tuple[int, int]], rng: np.random.Generator) -> bytes:
    """One to three changes within the regions: a byte, a bit, a number of 2, 4 or 8 bytes, or a cut."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start, stop = regions[rng.integers(len(regions))]
        at = int(rng.integers(start, stop))
        kind = rng.integers(6)
        if kind == 0:
            changed[at] = rng.integers(256)
        elif kind == 1:
            changed[at] ^= 1 << rng.integers(8)
        elif kind == 2 and rng.random() < 0.3:
            return bytes(changed[:at])
        elif kind == 3:
            other = int(rng.integers(start, stop))
            size = min(8, len(changed) - max(at, other))  # a shorter copy would shrink the file
            changed[at : at + size] = changed[other : other + size]
        else:
            size = int(rng.choice((2, 4, 8)))
            value = int(rng.choice(np.array(INTERESTING, np.uint64))) & ((1 << 8 * size) - 1)
            if rng.random() < 0.3:  # near a number that means something, as off-by-one errors are
                old = int.from_bytes(changed[at : at + size], "little")
                value = (old + int(rng.integers(-9, 10))) & ((1 << 8 * size) - 1)
            changed[at : at + size] = value.to_bytes(size, "little")
    return bytes(changed[: len(content)])


def seal(content: bytes) -> bytes:
    """Make the checksum of our own section right again, so that what is behind it is tried too."""
    start, size = (int.from_bytes(content[at : at + 8], "little") for at in (ARGUMENTS + 16, ARGUMENTS + 24))
    crc = zlib.crc32(content[start : start + size])
    return content[: ARGUMENTS + 12] + crc.to_bytes(4, "little") + content[ARGUMENTS + 16 :]


def fuzz(content: bytes, regions: list[tuple[int, int]], path: Path, count: int, seed: int) -> int:
    """The number of mutants that could be opened."""
    rng = np.random.default_rng(seed)
    opened = 0
    for _ in range(count):
        mutant = mutate(content, regions, rng)
        path.write_bytes(seal(mutant) if rng.random() < 0.5 else mutant)
        opened += read_all(path)
    return opened


def without_gap(path: Path) -> tuple[bytes, int, int]:
    """A file of two fields without the zeros before its first image, so that a mutant costs milliseconds.

    Also returns where its own section and its allocation table start.
    """
    content = bytearray(path.read_bytes())
    count, table = (int.from_bytes(content[at : at + 8], "little") for at in (8, 16))
    rows_end = ROWS + 24 * count
    gap = (int.from_bytes(content[table + 8 : table + 16], "little") - rows_end) // 8 * 8
    rows = range(ROWS + 5, rows_end, 24)
    for at in (16, ARGUMENTS + 16, *rows, *range(table + 8, len(content), 24)):
        value = int.from_bytes(content[at : at + 8], "little")
        content[at : at + 8] = (value - gap).to_bytes(8, "little")
    side = int.from_bytes(content[ARGUMENTS + 16 : ARGUMENTS + 24], "little")
    return bytes(content[:rows_end] + content[rows_end + gap :]), side, table - gap


@pytest.mark.parametrize("count", [1200, pytest.param(60_000, marks=pytest.mark.slow)])
def test_mutants_of_our_own_file(photos: Path, tmp_path: Path, count: int) -> None:
    write_beton(photos, tmp_path / "written.beton", num_workers=0)
    content, side, table = without_gap(tmp_path / "written.beton")
    path = tmp_path / "mutant.beton"
    path.write_bytes(content)
    assert read_all(path)
    regions = [(0, 24), (24, ARGUMENTS), (ARGUMENTS, ARGUMENTS + 48), (ROWS - 1041, ROWS - 1024)]
    regions += [(ROWS, ROWS + 7 * 24), (side, table), (table, len(content)), (0, len(content))]
    assert 0 < fuzz(content, regions, path, count, seed=1) < count


@pytest.mark.parametrize("count", [150, pytest.param(8_000, marks=pytest.mark.slow)])
def test_mutants_of_a_stock_file(stock_beton: Any, tmp_path: Path, count: int) -> None:
    content = stock_beton.path.read_bytes()
    rows, table = 24 + 4 * 1041, 3 << 21
    regions = [(0, 24), (24, rows), (rows, rows + 6 * 48), (table, len(content))]
    assert 0 < fuzz(content, regions, tmp_path / "mutant.beton", count, seed=2) < count
