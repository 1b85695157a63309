"""`--backend ffcv` on an image folder: one .beton in the cache, in the folder's order, renewed on change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastpipe.storage import BetonDataset, FolderDataset, open_index
from fastpipe.train.betons import as_beton


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            value = np.full((12, 10 + number, 3), 40 * label + number, np.uint8)
            Image.fromarray(value).save(tmp_path / "images" / name / f"{number}.{'png' if number else 'jpg'}")
    return tmp_path / "images"


def test_the_file_has_the_folders_pixels_and_labels_in_its_order(folder: Path) -> None:
    index = open_index(folder)
    written, read = BetonDataset(as_beton(index)), FolderDataset(folder)
    assert written.classes == read.classes and len(written) == len(read)
    for (ours, label), (theirs, expected) in zip(written, read, strict=True):
        assert label == expected
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_it_is_written_once_and_again_after_a_change(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = as_beton(open_index(folder))
    stamp = first.stat().st_mtime_ns
    again = as_beton(open_index(folder))
    assert (again, again.stat().st_mtime_ns) == (first, stamp)
    changed = folder / "bee" / "1.png"
    Image.fromarray(np.full((5, 5, 3), 200, np.uint8)).save(changed)
    os.utime(changed, ns=(stamp, stamp + 1))
    renewed = as_beton(open_index(folder))
    assert renewed != first
    assert BetonDataset(renewed)[4][0].size == (5, 5)
    assert [record.message.split(" once to ")[0] for record in caplog.records].count(
        f"writing the images of {folder}"
    ) == 2
