from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastpipe.errors import DataError, MissingExtraError
from fastpipe.storage import DEMO_NOTE, Splits, demo_splits, find_splits, image_sizes, open_index
from fastpipe.storage import demo as demo_module

HAS_PHOTOS = all(importlib.util.find_spec(name) for name in ("skimage", "sklearn"))
needs_photos = pytest.mark.skipif(not HAS_PHOTOS, reason="needs the demo extra (scikit-image, scikit-learn)")


def digest(splits: Splits) -> str:
    """SHA-256 over all names and bytes."""
    found = hashlib.sha256()
    for folder in (splits.train, splits.validation):
        for path in sorted(folder.rglob("*.jpg")):
            found.update(path.relative_to(folder.parent).as_posix().encode())
            found.update(path.read_bytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Splits]:
    if not HAS_PHOTOS:
        pytest.skip("needs the demo extra (scikit-image, scikit-learn)")
    cache = tmp_path_factory.mktemp("demo")
    return cache, demo_splits(cache)


def test_layout(built: tuple[Path, Splits]) -> None:
    _, splits = built
    train, validation = open_index(splits.train), open_index(splits.validation)
    assert train.classes == validation.classes and len(train.classes) == 16
    assert np.bincount(train.labels).tolist() == [150] * 16
    assert np.bincount(validation.labels).tolist() == [40] * 16
    assert splits.test is None
    assert find_splits(splits.train.parent) == splits


def test_sizes_and_format(built: tuple[Path, Splits]) -> None:
    _, splits = built
    for folder in (splits.train, splits.validation):
        index = open_index(folder)
        sizes = image_sizes(index, range(len(index)))
        assert sizes.min() >= 84 and sizes.max() == 192
    for i in (0, 777, 2399):
        with Image.open(open_index(splits.train).path(i)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")


def test_second_call_builds_nothing(built: tuple[Path, Splits], monkeypatch: pytest.MonkeyPatch) -> None:
    cache, splits = built
    open_index(splits.train)  # Its cache file must not look like a changed data set.

    def fail() -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(demo_module, "demo_photos", fail)
    assert demo_splits(cache) == splits


def test_deterministic_and_rebuilt_when_a_file_is_lost(built: tuple[Path, Splits], tmp_path: Path) -> None:
    cache, splits = built
    copy = tmp_path / "copy"
    shutil.copytree(cache, copy)
    (copy / "demo" / "train" / "cat" / "007.jpg").unlink()
    again = demo_splits(copy)
    assert digest(again) == digest(splits)
    assert sorted(p.name for p in copy.iterdir()) == ["demo", "demo.lock"]


def test_splits_come_from_disjoint_parts_of_each_photo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A photo whose pixels say which column they are from: the two splits must be 4 % of the width apart."""
    photo = np.zeros((300, 1000, 3), np.uint8)
    photo[..., 0] = np.arange(1000) // 4
    Image.fromarray(photo).save(tmp_path / "columns.png")
    monkeypatch.setattr(demo_module, "demo_photos", lambda: {"columns": tmp_path / "columns.png"})
    monkeypatch.setattr(demo_module, "_MAX_STORED", 10**6)
    monkeypatch.setattr(demo_module, "_QUALITY", 100)
    splits = demo_splits(tmp_path / "cache")

    def columns(folder: Path) -> tuple[int, int]:
        reds = [np.asarray(Image.open(path))[..., 0].astype(int) for path in folder.rglob("*.jpg")]
        return min(int(red.min()) for red in reds), max(int(red.max()) for red in reds)

    first, last = columns(splits.train)
    assert first <= 4 and 145 <= last <= 155 + 3  # Column 620 has red 155; JPEG moves a value by up to 3.
    first, last = columns(splits.validation)
    assert 165 - 3 <= first <= 172 and last >= 245


def test_a_small_probe_tells_the_classes_apart(built: tuple[Path, Splits]) -> None:
    """The nearest colour histogram names 0.74 of the photos, chance 0.06. A wrong cut or label would not."""

    def features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        index = open_index(folder)
        rows = []
        for i in range(0, len(index), 4):
            with Image.open(index.path(i)) as image:
                pixels = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) // 64
            code = pixels[..., 0] * 16 + pixels[..., 1] * 4 + pixels[..., 2]
            rows.append(np.sqrt(np.bincount(code.ravel(), minlength=64) / 1024))
        return np.stack(rows), index.labels[::4]

    (train, labels), (validation, expected) = features(built[1].train), features(built[1].validation)
    nearest = labels[(validation @ train.T).argmax(1)]
    assert np.mean(nearest == expected) >= 0.65


def test_two_processes_at_once(tmp_path: Path, built: tuple[Path, Splits]) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=demo_splits, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert digest(find_splits(tmp_path / "demo")) == digest(built[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo", "demo.lock"]


def test_a_killed_build_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (500, 400)).save(tmp_path / "p.png")
    monkeypatch.setattr(demo_module, "demo_photos", lambda: {"p": tmp_path / "p.png"})
    cache = tmp_path / "cache"
    half = cache / "demo.tmp-1-dead"  # What SIGKILL leaves.
    half.mkdir(parents=True)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo_module, "_cut", interrupt)
        with pytest.raises(KeyboardInterrupt):
            demo_splits(cache)
    assert sorted(p.name for p in cache.iterdir()) == ["demo.lock"]
    assert demo_splits(cache).train.is_dir()


@pytest.mark.parametrize("stamp", ["", "[]", "null", json.dumps({"fingerprint": {"version": 0}})])
def test_a_folder_with_another_stamp_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamp: str
) -> None:
    Image.new("RGB", (500, 400)).save(tmp_path / "p.png")
    monkeypatch.setattr(demo_module, "demo_photos", lambda: {"p": tmp_path / "p.png"})
    (tmp_path / "demo" / "train" / "old").mkdir(parents=True)
    (tmp_path / "demo" / "fingerprint.json").write_text(stamp)
    assert open_index(demo_splits(tmp_path).train).classes == ("p",)


@pytest.mark.parametrize(("module", "package"), [("skimage", "scikit-image"), ("sklearn", "scikit-learn")])
def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name))
    expected = package if HAS_PHOTOS else "scikit"
    with pytest.raises(MissingExtraError, match=rf"{expected}.*pip install scikit-image scikit-learn"):
        demo_splits(tmp_path)


@needs_photos
def test_photo_absent_from_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo_module._SKIMAGE, "cat", "not_there.png")
    with pytest.raises(DataError, match=r"lacks not_there\.png.*pip install"):
        demo_splits(tmp_path)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="FASTPIPE_CACHE"):
        demo_splits(tmp_path / "file")


def test_note_says_what_it_is() -> None:
    assert "instance recognition" in DEMO_NOTE and "\n" not in DEMO_NOTE


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fastpipe.system.files import user_cache_dir

    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("FASTPIPE_CACHE", "~/mine")
    assert user_cache_dir(tmp_path) == tmp_path
    assert user_cache_dir() == Path("/home/someone/mine")
    monkeypatch.delenv("FASTPIPE_CACHE")
    assert user_cache_dir() == Path("/xdg/fastpipe")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_dir() == Path("/home/someone/.cache/fastpipe")


def test_lock_waits_for_the_other(tmp_path: Path) -> None:
    from fastpipe.system.files import file_lock

    order: list[str] = []
    held = threading.Event()

    def other() -> None:
        with file_lock(tmp_path / "lock"):
            held.set()
            time.sleep(0.2)
            order.append("first")

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    with file_lock(tmp_path / "lock"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
