"""The comparison of turbo with the installed Pillow: what it covers, what it refuses, how it is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, JpegImagePlugin
from torchvision import transforms

from fastpipe import BackendError, DataLoader, FolderDataset
from fastpipe.backends.turbo import native, truth

pytestmark = pytest.mark.turbo_built

TRAIN = transforms.Compose([transforms.RandomResizedCrop(24), transforms.ToTensor()])


@pytest.fixture(autouse=True)
def no_answer_yet() -> Iterator[None]:
    """The cache directory is this test's own (conftest.py), and so is what the process remembers."""
    truth.fault.cache_clear()
    yield
    truth.fault.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "a").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (60, 40), (number, 90, 7)).save(tmp_path / f"data/a/{number}.jpg")
    return tmp_path / "data"


def entry(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "cache" / "turbo").glob("*.json")
    return found


def test_the_files_are_of_every_kind_that_pillow_writes() -> None:
    images = [Image.open(io.BytesIO(data)) for data in truth.files()]
    assert len(images) == 64
    kinds = {
        (image.mode, JpegImagePlugin.get_sampling(image), bool(image.info.get("progressive")))
        for image in images
    }
    samplings = {(mode, sampling) for mode, sampling, _ in kinds}
    assert samplings == {("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", -1)}
    assert {progressive for _, _, progressive in kinds} == {False, True}
    assert min(min(image.size) for image in images) < 16 and any(image.width % 16 for image in images)


def test_it_finds_nothing_here_and_remembers_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert truth.fault() == ""
    assert json.loads(entry(tmp_path).read_text())["fault"] == ""
    truth.fault.cache_clear()
    monkeypatch.setattr(truth, "differences", lambda: "compared again")
    assert truth.fault() == "", "the stored answer counts"
    truth.fault.cache_clear()
    entry(tmp_path).write_text('{"fault": 3')
    assert truth.fault() == "compared again", "a damaged answer does not"


def test_another_pillow_is_compared_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = truth._key()
    monkeypatch.setattr(PIL, "__version__", "99.0.0")
    assert truth._key() != before


def test_without_a_writable_cache_every_process_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(truth, "differences", lambda: "compared")
    assert truth.fault() == "compared"


def test_another_resize_than_pillows_is_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of passes of another Pillow: single levels in a few of the generated crops."""
    monkeypatch.setattr(native, "_TALL_ROWS_FIRST", not native._TALL_ROWS_FIRST)
    said = (
        r"its pixels are not those of the installed Pillow .*up to \d+ levels in generated file \d+, cropped"
    )
    loader: Any = DataLoader(FolderDataset(folder, TRAIN), 2, backend="turbo", device="cpu")
    with pytest.raises(BackendError, match=said):
        iter(loader)
    text = str(DataLoader(FolderDataset(folder, TRAIN), 2, device="cpu").explain())
    assert "not turbo: its pixels are not those of the installed Pillow" in text


def test_other_pixels_of_the_decoder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One level in one pixel of one file is enough."""
    files = truth.files()
    decode = truth.decode_rgb

    def wrong(data: bytes) -> Image.Image:
        image = decode(data)
        if data == files[40]:
            pixels = np.asarray(image).copy()
            pixels[-1, -1, 2] ^= 1
            image = Image.fromarray(pixels)
        return image

    monkeypatch.setattr(truth, "decode_rgb", wrong)
    assert "up to 1 levels in generated file 40, decoded" in truth.differences()


def test_it_is_not_run_for_nothing() -> None:
    """Most of the files are decoded natively: the comparison would pass if all went to Pillow."""
    worker, statuses = native.new_worker(), native.open_native().STATUSES
    done = 0
    for data in truth.files():
        step = native.step_of(None)
        assert step is not None
        status, height, width = worker.measure(data, step, np.empty(0), 1 << 40)
        image = np.empty((1, height, width, 3), np.uint8)
        (status,) = worker.fill_bytes([data], step, np.empty((1, 0)), image, 1 << 40)
        done += statuses[status] == "done"
    assert done == 64
