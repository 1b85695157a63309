"""Weights and checkpoints that would not fit their file: refused before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fastpipe.errors import DataError
from fastpipe.train.checkpoint import FORMAT, load_plain
from fastpipe.train.pretrained.files import read_file
from fastpipe.train.torch_file import read_torch

SIZE = 64 << 20


def packed_again(source: Path, target: Path, *, times: int = 1) -> None:
    """The parts of `source`, compressed, or as stored but listed `times` over the same bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED if times == 1 else zipfile.ZIP_STORED)
        if times > 1:
            largest = max(new.infolist(), key=lambda part: part.file_size)
            new.filelist += [largest] * (times - 1)


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    torch.save({"format": FORMAT, "w": torch.zeros(SIZE, dtype=torch.uint8)}, tmp_path / "plain.pt")
    packed_again(tmp_path / "plain.pt", tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < SIZE // 500
    return tmp_path / "small.pt"


@pytest.mark.parametrize("read", [read_file, load_plain])
def test_compressed_parts_are_refused_and_not_unpacked(
    read: Any, bomb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for unpacks in ("torch.load", "zipfile.ZipFile.open"):
        monkeypatch.setattr(unpacks, lambda *_args, **_kwargs: pytest.fail("unpacked"))
    with pytest.raises(DataError, match=r"not compressed\. Found: 67,\d+,\d+ bytes in a file of [\d,]+$"):
        read(bomb)


def test_parts_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1000)}, tmp_path / "plain.pt")
    packed_again(tmp_path / "plain.pt", tmp_path / "twice.pt", times=40)
    for check_sums in (False, True):
        with pytest.raises(ValueError, match="not compressed"):
            read_torch(tmp_path / "twice.pt", check_sums=check_sums)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read_old_and_new(tmp_path: Path, zipped: bool) -> None:
    weights = {"w": torch.arange(1000.0), "n": torch.tensor(3), "empty": torch.empty(0)}
    torch.save(weights, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch(tmp_path / "w.pt")
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert len(found) == 3
