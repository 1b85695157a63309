from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.storage import FolderDataset, find_splits, open_index
from fastpipe.storage import scan as scan_module


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("use", [open_index, FolderDataset, find_splits])
def test_missing_folder(tmp_path: Path, use: Callable[[Path], object]) -> None:
    with pytest.raises(EmptyDatasetError, match=r"nowhere.*does not exist.*Check the path"):
        use(tmp_path / "nowhere")


@pytest.mark.parametrize("use", [open_index, FolderDataset, find_splits])
def test_a_file(tmp_path: Path, use: Callable[[Path], object]) -> None:
    touch(tmp_path, "photos.zip")
    with pytest.raises(DataError, match=r"photos\.zip.*is a file, not a folder. Pass a folder"):
        use(tmp_path / "photos.zip")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"no class folders. Expected one folder per class"):
        open_index(tmp_path)
    with pytest.raises(EmptyDatasetError, match=r"contains no folders. Expected train/"):
        find_splits(tmp_path)


def test_images_directly_in_root(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.PNG", "notes.txt")
    with pytest.raises(
        EmptyDatasetError, match=r"contains 2 images but no class folders. Put the images of each"
    ):
        open_index(tmp_path)


def test_images_beside_classes_are_mentioned(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(photos, "stray.jpg")
    assert len(open_index(photos)) == 7
    assert "1 images lie directly in" in caplog.text


def test_classes_without_images(tmp_path: Path) -> None:
    touch(tmp_path, "a/notes.txt", "b/1.gif")
    with pytest.raises(
        EmptyDatasetError, match=r"2 class folders of .* contain no image. Image files end in \.jpg"
    ):
        open_index(tmp_path)


@pytest.mark.parametrize("times", [1, 2])
def test_one_class_without_images(photos: Path, times: int) -> None:
    touch(photos, "empty/notes.txt")
    for _ in range(times):  # The second time from the cache.
        with pytest.raises(EmptyDatasetError, match=r"without an image: 'empty'.*allow_empty_class=True"):
            open_index(photos)
    index = open_index(photos, allow_empty_class=True)
    assert index.classes == ("ant", "bee", "empty")


def test_splits_given_as_a_data_set(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "val/a/1.jpg")
    with pytest.raises(DataError, match=r"contains whole splits \(train, val\).*Pass one of them.*train'"):
        open_index(tmp_path)


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "test/1.jpg")
    assert open_index(tmp_path).classes == ("test", "train")


@pytest.mark.parametrize("where", [".", "bee", "bee/deep"])
def test_unreadable_directory(photos: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    touch(photos, "bee/deep/1.jpg")
    closed = os.path.normpath(photos / where)
    real = os.scandir

    def scandir(path: str) -> object:  # Permissions do not stop root, who may run these tests.
        if os.path.normpath(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(scan_module.os, "scandir", scandir)
    with pytest.raises(DataError, match=rf"{closed}.*cannot be read \(Permission denied\)"):
        open_index(photos)


def test_link_in_a_circle(photos: Path) -> None:
    (photos / "bee" / "deep").mkdir()
    (photos / "bee" / "deep" / "again").symlink_to(photos / "bee", target_is_directory=True)
    with pytest.raises(DataError, match=r"again' leads back to a folder that contains it. Remove the link"):
        open_index(photos)


def test_link_to_the_root(photos: Path) -> None:
    (photos / "all").symlink_to(photos, target_is_directory=True)
    with pytest.raises(DataError, match="leads back"):
        open_index(photos)


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "validation", "test"),
    [
        (["train", "val"], "val", None),
        (["train", "validation"], "validation", None),
        (["train", "test"], "test", None),
        (["train", "val", "test"], "val", "test"),
        (["train", "validation", "test", "raw"], "validation", "test"),
    ],
)
def test_splits_found(tmp_path: Path, folders: list[str], validation: str, test: str | None) -> None:
    touch(tmp_path, *(f"{name}/a/1.jpg" for name in folders))
    for root in (tmp_path, str(tmp_path)):
        splits = find_splits(root)
        assert splits.train == tmp_path / "train"
        assert splits.validation == tmp_path / validation
        assert splits.test == (None if test is None else tmp_path / test)


def test_only_classes(photos: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"no train/.*'ant', 'bee'.*move them to .*train'"):
        find_splits(photos)


def test_train_alone(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg")
    with pytest.raises(EmptyDatasetError, match=r"no val/, validation/ or test/.*Move some images"):
        find_splits(tmp_path)


def test_val_and_validation(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "validation/a/1.jpg")
    with pytest.raises(DataError, match="both val/ and validation/"):
        find_splits(tmp_path)


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_differ(tmp_path: Path, split: str) -> None:
    touch(tmp_path, *(f"{name}/{c}/1.jpg" for name in ("train", "val", "test") for c in ("a", "b", "c")))
    (tmp_path / split / "b").rename(tmp_path / split / "B")
    with pytest.raises(DataError, match=rf"Only in train/: 'b'; only in {split}/: 'B'"):
        find_splits(tmp_path)


def test_train_without_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "val/a/1.jpg")
    with pytest.raises(EmptyDatasetError, match=r"train' contains 1 images but no class folders"):
        find_splits(tmp_path)


def test_real_splits() -> None:
    folder = os.environ.get("FASTPIPE_TEST_DATA", "")
    if not os.path.isdir(os.path.join(folder, "clothing")):
        pytest.skip("FASTPIPE_TEST_DATA names no folder that holds clothing/")
    splits = find_splits(os.path.join(folder, "clothing"))
    assert splits.validation.name == "validation" and splits.test is not None
    counts = [len(open_index(s, use_cache=False)) for s in (splits.train, splits.validation, splits.test)]
    assert counts == [3068, 341, 372]
