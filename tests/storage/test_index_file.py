from __future__ import annotations

import dataclasses
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from fastpipe.storage import IMG_EXTENSIONS, image_sizes, open_index
from fastpipe.storage import index_file as file_module
from fastpipe.storage.index_file import CorruptIndexError, read_index, write_index
from fastpipe.storage.scan import Listing, listing_from_names


@pytest.fixture
def cached(photos: Path, rest: Callable[[Path], None]) -> Path:
    rest(photos)
    index = open_index(photos)
    image_sizes(index, range(7))
    return Path(index.cache_file)


def assert_rebuilt(cache: Path, root: Path) -> None:
    with pytest.warns(UserWarning, match=r"the index cache .*rebuilding"):
        index = open_index(root)
    assert [(index.path(i), index.label(i)) for i in range(len(index))] == ImageFolder(root).samples
    assert len(open_index(root)) == len(index), "the rebuilt cache is sound"


def test_round_trip(cached: Path, photos: Path) -> None:
    stored = read_index(str(cached))
    assert stored is not None
    assert stored.listing.classes == ("ant", "bee")
    assert stored.listing.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert stored.extensions == IMG_EXTENSIONS
    assert (stored.image_hw > 0).all() and (stored.num_bytes > 0).all()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 63, 64, 65, 100, 300, -1])
def test_truncated(cached: Path, photos: Path, length: int) -> None:
    cached.write_bytes(cached.read_bytes()[:length])
    assert_rebuilt(cached, photos)


@pytest.mark.parametrize("content", [b"\0" * 4096, b"PK\3\4 not ours", b"FPINDEX\0" + b"\xff" * 200])
def test_another_file_of_that_name(cached: Path, photos: Path, content: bytes) -> None:
    cached.write_bytes(content)
    if content[8:12] == b"\xff\xff\xff\xff":  # A version to come is no damage: rebuilt without a word.
        assert len(open_index(photos)) == 7
    else:
        assert_rebuilt(cached, photos)


def test_longer_than_it_says(cached: Path, photos: Path) -> None:
    cached.write_bytes(cached.read_bytes() + b"\0")
    assert_rebuilt(cached, photos)


def test_no_flipped_bit_is_believed(cached: Path, photos: Path) -> None:
    good = cached.read_bytes()
    stored = read_index(str(cached))
    assert stored is not None
    facts_from = len(good) - 7 * 24
    for place in random.Random(0).sample(range(len(good) * 8), 400):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        cached.write_bytes(bad)
        if 8 <= place // 8 < 12:
            assert read_index(str(cached)) is None  # Another version.
        elif place // 8 < facts_from:
            with pytest.raises(CorruptIndexError):
                read_index(str(cached))
        else:  # A damaged fact counts as not read; the others stay.
            found = read_index(str(cached))
            assert found is not None
            row = (place // 8 - facts_from) // 24
            assert found.image_hw[row].tolist() == [0, 0] and found.num_bytes[row] == -1
            others = np.arange(7) != row
            assert (found.image_hw[others] == stored.image_hw[others]).all()


def test_zeroed_check_words_count_as_not_read(cached: Path, photos: Path) -> None:
    good = bytearray(cached.read_bytes())
    good[-8:] = bytes(8)
    cached.write_bytes(good)
    assert open_index(photos).image_hw[6].tolist() == [0, 0]
    assert image_sizes(open_index(photos), [6]).tolist() == [[6, 5]]


def test_directory_and_pipe_of_that_name(cached: Path, photos: Path) -> None:
    cached.unlink()
    os.mkfifo(cached)
    assert_rebuilt(cached, photos)


def _listing(**changes: object) -> Listing:
    return dataclasses.replace(listing_from_names({"a": ["1.jpg", "2.jpg"], "b": ["3.jpg"]}), **changes)  # type: ignore[arg-type]


def _blob(*paths: bytes) -> dict[str, object]:
    blob = np.frombuffer(b"".join(path + b"\0" for path in paths), np.uint8)
    ends = np.cumsum([len(path) + 1 for path in paths])
    return {"blob": blob, "offsets": np.concatenate([[0], ends]).astype(np.int64)}


@pytest.mark.parametrize(
    "changes",
    [
        _blob(b"/etc/passwd.jpg", b"a/2.jpg", b"b/3.jpg"),
        _blob(b"a/../../secret.jpg", b"a/2.jpg", b"b/3.jpg"),
        _blob(b"../a/secret.jpg", b"a/2.jpg", b"b/3.jpg"),
        _blob(b"b/1.jpg", b"a/2.jpg", b"b/3.jpg"),
        _blob(b"a/1.jpg", b"a/2.jpg", b"bb/3.jpg"),
        {"offsets": np.array([0, 8, 8, 24])},
        {"offsets": np.array([0, 16, 8, 24])},
        {"offsets": np.array([0, 8, 16, 2**40])},
        {"offsets": np.array([-8, 8, 16, 24])},
        {"offsets": np.array([0, 7, 16, 24])},
        {"labels": np.array([0, 0, 2], np.int32)},
        {"labels": np.array([-1, 0, 1], np.int32)},
        {"labels": np.array([1, 0, 1], np.int32)},
        {"labels": np.array([0, 0, 0], np.int32)},
        {"classes": ("a", 5)},
        {"classes": 7},
        {"dirs": (("a", "yesterday"),)},
        {"dirs": ("a",)},
        {"dirs": ((["a"], 3),)},
    ],
    ids=str,
)
def test_edited_with_a_valid_checksum(tmp_path: Path, changes: dict[str, object]) -> None:
    """Who edits the file can also mend its checksum: what it says must still be possible."""
    path = str(tmp_path / "index.bin")
    count = 3
    hw = np.zeros((count, 2), np.int32)
    write_index(path, _listing(), (".jpg",), np.full(count, -1, np.int64), hw)
    assert read_index(path) is not None
    write_index(path, _listing(**changes), (".jpg",), np.full(count, -1, np.int64), hw)
    with pytest.raises(CorruptIndexError):
        read_index(path)


@pytest.mark.parametrize("field", range(4))
@pytest.mark.parametrize("value", [0, 1, 2**31, 2**63 - 1])
def test_absurd_header_counts(cached: Path, photos: Path, field: int, value: int) -> None:
    data = bytearray(cached.read_bytes())
    at = 32 + 8 * field
    if field == 3:
        struct.pack_into("<q", data, at, value)
    else:
        struct.pack_into("<Q", data, at, value)
    start = 7 * 24
    struct.pack_into("<I", data, 12, zlib.crc32(data[16 : len(data) - start]))
    cached.write_bytes(data)
    if field == 3:  # The time of the scan: at worst the cache is not trusted, or trusted as far as mtimes go.
        assert len(open_index(photos)) == 7
    else:
        assert_rebuilt(cached, photos)


def test_deeply_nested_description(cached: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module.json, "dumps", lambda _: "[" * 100_000)
    cached.unlink()
    open_index(photos)
    monkeypatch.undo()
    with pytest.raises(CorruptIndexError):
        read_index(str(cached))


def test_a_cache_for_other_classes_is_not_used(
    cached: Path, photos: Path, rest: Callable[[Path], None]
) -> None:
    data = cached.read_bytes()
    (photos / "bee").rename(photos / "cat")
    rest(photos)
    cached.write_bytes(data)
    assert open_index(photos).classes == ("ant", "cat")
