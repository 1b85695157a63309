from __future__ import annotations

import dataclasses
import io
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from fastpipe.errors import ArgumentError, DataError, SampleError
from fastpipe.storage import (
    IMG_EXTENSIONS,
    FolderDataset,
    FolderIndex,
    file_sizes,
    image_sizes,
    open_index,
)
from fastpipe.storage import index as index_module
from fastpipe.storage.index_file import read_index, write_index

FORMER = ".fastpipe-index.bin"


def cache_of(root: Path) -> Path:
    return Path(open_index(root).cache_file)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def pairs(index: FolderIndex) -> list[tuple[str, int]]:
    return [(index.path(i), index.label(i)) for i in range(len(index))]


def assert_as_torchvision(root: Path | str) -> None:
    theirs = ImageFolder(root)
    for index in (open_index(root), open_index(root), open_index(root, use_cache=False)):
        assert pairs(index) == theirs.samples
        assert list(index.classes) == theirs.classes
        assert index.class_to_idx == theirs.class_to_idx


def test_plain_tree(photos: Path) -> None:
    assert_as_torchvision(photos)
    assert_as_torchvision(f"{photos}/")


def test_relative_root_and_home(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("HOME", str(photos.parent))
    assert_as_torchvision("photos")
    assert_as_torchvision("~/photos")
    monkeypatch.chdir(photos)
    assert_as_torchvision(".")


def test_nested_dirs_sort_by_their_whole_path(tmp_path: Path) -> None:
    # "a-b" sorts between "a" and "a/": a walk that sorts level by level gets this wrong.
    touch(
        tmp_path,
        "c/a/x.jpg",
        "c/a-b/x.jpg",
        "c/a/b/x.jpg",
        "c/z.jpg",
        "c/A/1.jpg",
        "c/a/b/c/d/e.png",
        "d/1.jpg",
    )
    assert_as_torchvision(tmp_path)


def test_extensions_case_and_odd_file_names(tmp_path: Path) -> None:
    names = [
        "1.JPG",
        "2.JpEg",
        "3.png.txt",
        "4.webp",
        ".jpg",
        ".hidden.png",
        "no_ending",
        "5.tiff ",
        "a\nb.jpg",
        "x.PPM",
    ]
    touch(tmp_path, *(f"c/{name}" for name in names), "d/'quote\".bmp", "d/back\\slash.pgm")
    assert_as_torchvision(tmp_path)


def test_dot_directories_are_classes_as_in_torchvision(tmp_path: Path) -> None:
    touch(tmp_path, ".thumbs/1.jpg", "b/.cache/2.jpg", "b/1.jpg")
    assert_as_torchvision(tmp_path)


def test_links_to_files_and_folders_and_broken_ones(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    touch(root, "a/1.jpg", "b/1.jpg")
    touch(other, "deep/er/2.jpg", "single.jpg")
    (root / "c").symlink_to(other, target_is_directory=True)
    (root / "a" / "folder.jpg").symlink_to(other / "deep", target_is_directory=True)
    (root / "a" / "file.png").symlink_to(other / "single.jpg")
    (root / "a" / "gone.jpg").symlink_to(other / "nowhere.jpg")
    (root / "a" / "self.jpg").symlink_to(root / "a" / "self.jpg")
    (root / "a" / "twice").symlink_to(root / "b", target_is_directory=True)
    assert_as_torchvision(root)


def test_names_that_are_not_ascii_or_not_even_text(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "\u00e9t\u00e9/\u732b.jpg",
        "\u00e9t\u00e9/\U0001f600.jpg",
        "\u00e9t\u00e9/\uff21.jpg",
        "z/1.jpg",
    )
    raw = os.path.join(os.fsencode(tmp_path), b"bad\xff")
    try:
        os.mkdir(raw)
        for name in (b"\xfe\xfd.jpg", b"ok.jpg", b"\x80\xc3\xa9.PNG"):
            open(os.path.join(raw, name), "wb").close()
    except OSError as err:
        pytest.skip(f"this file system takes no undecodable names: {err}")
    assert_as_torchvision(tmp_path)


SEGMENT = st.text(st.sampled_from("aAbB-._ 9\u00e9\udcff"), min_size=1, max_size=4).filter(
    lambda s: s not in (".", "..")
)
ENDING = st.sampled_from([".jpg", ".JPG", ".png", ".txt", ""])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    trees=st.lists(
        st.tuples(st.lists(SEGMENT, min_size=1, max_size=4), SEGMENT, ENDING), min_size=1, max_size=12
    )
)
def test_any_tree_equals_torchvision(
    tmp_path_factory: pytest.TempPathFactory, trees: list[tuple[list[str], str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folders, stem, ending in trees:
        target = os.path.join(root, *folders)
        try:
            os.makedirs(target, exist_ok=True)
            open(os.path.join(target, stem + ending), "wb").close()
        except OSError:
            continue  # A file of that name stands where a folder should, or the other way round.
    theirs = ImageFolder(root, allow_empty=True)
    if not theirs.samples:
        with pytest.raises(DataError):
            open_index(root)
        return
    for index in (open_index(root, allow_empty_class=True), open_index(root, allow_empty_class=True)):
        assert pairs(index) == theirs.samples


def test_own_extensions(photos: Path) -> None:
    assert [p.rsplit("/", 1)[1] for p, _ in pairs(open_index(photos / "..", extensions=(".PNG",)))] == [
        "grey.PNG"
    ]
    with pytest.raises(ArgumentError, match="extensions"):
        open_index(photos, extensions=())


def test_sample_and_bounds(photos: Path) -> None:
    index = open_index(photos)
    sample = index.sample(3)
    assert (sample.id, sample.path, sample.label) == (3, str(photos / "bee" / "0.jpg"), 1)
    assert sample.num_bytes == os.path.getsize(sample.path)
    for i in (-1, len(index)):
        with pytest.raises(IndexError):
            index.path(i)
        with pytest.raises(IndexError):
            index.sample(i)
        with pytest.raises(IndexError):
            index.label(i)


def test_arrays_are_frozen_and_small(photos: Path) -> None:
    index = open_index(photos)
    assert index.labels.dtype == np.int32 and index.offsets.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        index.labels[0] = 5
    assert index.nbytes < 100 * len(index)


def test_pickles(photos: Path) -> None:
    index = open_index(photos)
    assert pairs(pickle.loads(pickle.dumps(index))) == pairs(index)


# --- the cache ------------------------------------------------------------------------------------


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lists the roots that were really walked."""
    walked: list[str] = []
    real = index_module.scan

    def counted(root: str, *rest: object) -> object:
        walked.append(root)
        return real(root, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "scan", counted)
    return walked


def test_second_open_walks_nothing(
    photos: Path, own_cache: Path, rest: Callable[[Path], None], scans: list[str]
) -> None:
    rest(photos)
    first = open_index(photos)
    second = open_index(photos)
    assert len(scans) == 1
    assert Path(second.cache_file).parent == own_cache / "index"
    assert pairs(second) == pairs(first)
    assert second.classes == first.classes
    open_index(photos, use_cache=False)
    assert len(scans) == 2


def test_nothing_is_written_to_the_users_photos(photos: Path, rest: Callable[[Path], None]) -> None:
    rest(photos)
    before = {path: path.stat().st_mtime_ns for path in (photos, *photos.rglob("*"))}
    image_sizes(open_index(photos), range(7))
    FolderDataset(photos)
    assert {path: path.stat().st_mtime_ns for path in (photos, *photos.rglob("*"))} == before


def former(root: Path, **changes: object) -> Path:
    """What an earlier version left in the folder, with every size it knew."""
    index = open_index(root, use_cache=False)
    image_sizes(index, range(len(index)))
    found = read_index(open_index(root).cache_file)
    assert found is not None
    Path(open_index(root).cache_file).unlink()
    listing = dataclasses.replace(found.listing, **changes)  # type: ignore[arg-type]
    write_index(str(root / FORMER), listing, IMG_EXTENSIONS, index.num_bytes, index.image_hw)
    return root / FORMER


def test_a_file_of_an_earlier_version_is_read_once_and_left_alone(
    photos: Path, own_cache: Path, rest: Callable[[Path], None], scans: list[str]
) -> None:
    rest(photos)
    left = former(photos)
    content, scanned = left.read_bytes(), len(scans)
    index = open_index(photos)
    assert index.image_hw[0].tolist() == [20, 10] and len(scans) == scanned
    assert Path(index.cache_file).parent == own_cache / "index" and left.read_bytes() == content
    left.write_bytes(b"read no more")
    assert open_index(photos).image_hw[0].tolist() == [20, 10] and len(scans) == scanned


def test_a_file_of_an_earlier_version_is_not_believed_when_the_folder_changed(
    photos: Path, rest: Callable[[Path], None]
) -> None:
    rest(photos)
    former(photos)
    (photos / "ant" / "new.jpg").touch()
    assert pairs(open_index(photos)) == ImageFolder(photos).samples


def test_a_file_of_an_earlier_version_cannot_point_outside_the_folder(
    photos: Path, rest: Callable[[Path], None]
) -> None:
    rest(photos)
    found = read_index(str(cache_of(photos)))
    assert found is not None
    blob = found.listing.blob.copy()
    blob[: found.listing.offsets[1] - 1] = np.frombuffer(
        b"../0.jpg0"[: found.listing.offsets[1] - 1], np.uint8
    )
    former(photos, blob=blob)
    with pytest.warns(UserWarning, match=r"fastpipe-index.*leaves the folder of its class"):
        assert pairs(open_index(photos)) == ImageFolder(photos).samples


def test_another_folder_of_that_name_is_seen_although_every_mtime_is_the_same(
    photos: Path, rest: Callable[[Path], None]
) -> None:
    # As an archive leaves them that sets all times, unpacked over an older version of the data.
    rest(photos)
    open_index(photos)
    photos.rename(photos.with_name("old"))
    touch(photos, "ant/a.jpg", "bee/b.jpg")
    rest(photos)
    assert pairs(open_index(photos)) == ImageFolder(photos).samples


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "ant" / "new.jpg").touch(),
        lambda root: (root / "ant" / "0.jpg").unlink(),
        lambda root: (root / "ant" / "0.jpg").rename(root / "ant" / "9.jpg"),
        lambda root: touch(root, "ant/deep/er/1.jpg"),
        lambda root: (root / "ant" / "old" / "deep" / "2.jpg").touch(),
        lambda root: touch(root, "cat/1.jpg"),
        lambda root: (root / "bee").rename(root / "wasp"),
        lambda root: (root.parent / "behind" / "late.jpg").touch(),
    ],
    ids=["add", "remove", "rename", "nested", "add nested", "class", "rename class", "behind a link"],
)
def test_changes_are_seen(photos: Path, rest: Callable[[Path], None], change: Callable[[Path], None]) -> None:
    target = photos.parent / "behind"
    touch(photos, "ant/old/deep/1.jpg")
    touch(target, "1.jpg")
    rest(photos.parent)
    (photos / "bee" / "linked").symlink_to(target, target_is_directory=True)
    rest(photos.parent)
    open_index(photos)
    change(photos)
    assert pairs(open_index(photos)) == ImageFolder(photos).samples


def test_change_in_the_same_clock_tick_is_seen(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A coarse clock: the folder keeps its mtime although a file was added right after the scan.
    open_index(photos)
    state = os.stat(photos / "ant")
    (photos / "ant" / "late.jpg").touch()
    os.utime(photos / "ant", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert pairs(open_index(photos)) == ImageFolder(photos).samples


def test_other_extensions_have_their_own_cache(
    photos: Path, rest: Callable[[Path], None], scans: list[str]
) -> None:
    rest(photos)
    for _ in range(2):
        assert len(open_index(photos)) == 7
        assert len(open_index(photos, extensions=(".png", ".jpg"))) == 7
        assert len(open_index(photos, extensions=(".png",), allow_empty_class=True)) == 1
    assert len(scans) == 3


def test_cache_dir_argument(
    photos: Path, tmp_path: Path, rest: Callable[[Path], None], scans: list[str]
) -> None:
    rest(photos)
    for _ in range(2):
        open_index(photos, cache_dir=tmp_path / "mine")
    assert len(scans) == 1
    assert sorted(p.name for p in photos.iterdir()) == ["ant", "bee"]


def test_no_place_for_a_cache_is_said_not_raised(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(index_module, "write_index", refuse)
    assert len(open_index(photos)) == 7
    assert "could not be cached" in caplog.text


def test_a_failed_write_leaves_nothing_behind(
    photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    open_index(photos)
    assert list((own_cache / "index").iterdir()) == []


def test_many_at_once(photos: Path, rest: Callable[[Path], None]) -> None:
    rest(photos)
    expected = ImageFolder(photos).samples
    results: list[object] = []

    def work() -> None:
        for _ in range(10):
            index = open_index(photos)
            image_sizes(index, range(len(index)))
            results.append(pairs(index) == expected and index.image_hw[0].tolist() == [20, 10])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 40
    assert sorted(p.name for p in photos.iterdir()) == ["ant", "bee"]


# --- sizes ----------------------------------------------------------------------------------------


def test_image_sizes_are_height_width_and_kept(
    photos: Path, rest: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest(photos)
    index = open_index(photos)
    assert image_sizes(index, [6, 0, 6]).tolist() == [[6, 5], [20, 10], [6, 5]]
    assert image_sizes(index, np.arange(0)).shape == (0, 2)
    again = open_index(photos)
    assert again.image_hw.tolist() == [[20, 10], *[[0, 0]] * 5, [6, 5]]
    assert again.num_bytes[0] == os.path.getsize(index.path(0))
    monkeypatch.setattr("PIL.Image.open", None)  # What is known is not read again.
    assert image_sizes(again, [0, 6]).dtype == np.int32


def test_image_sizes_ignore_exif_orientation(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a" / "1.jpg", exif=exif)
    assert image_sizes(open_index(tmp_path), [0]).tolist() == [[20, 30]]


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_image_sizes_name_the_bad_file(photos: Path, content: bytes) -> None:
    (photos / "bee" / "1.jpg").write_bytes(content)
    index = open_index(photos)
    with pytest.raises(SampleError, match=r"bee/1\.jpg.*Remove or replace") as caught:
        image_sizes(index, range(len(index)))
    assert caught.value.sample_id == 4
    assert (index.image_hw[:4] > 0).all(), "what was read before it is kept"


def test_missing_file(photos: Path) -> None:
    index = open_index(photos)
    os.unlink(index.path(2))
    with pytest.raises(SampleError, match=r"2\.jpg"):
        image_sizes(index, [2])
    with pytest.raises(SampleError, match=r"2\.jpg"):
        file_sizes(index, [2])
    assert index.sample(2).num_bytes == -1


def test_file_sizes(photos: Path, rest: Callable[[Path], None]) -> None:
    rest(photos)
    index = open_index(photos)
    expected = [os.path.getsize(index.path(i)) for i in range(7)]
    assert file_sizes(index, range(7)).tolist() == expected
    assert open_index(photos).num_bytes.tolist() == expected


@pytest.mark.parametrize("ids", [[-1], [7], [0, 99]])
def test_ids_out_of_range(photos: Path, ids: list[int]) -> None:
    with pytest.raises(ArgumentError, match=r"0\.\.6"):
        image_sizes(open_index(photos), ids)


def test_sizes_after_the_cache_was_replaced_go_nowhere(photos: Path, rest: Callable[[Path], None]) -> None:
    rest(photos)
    old = open_index(photos)
    (photos / "ant" / "00.jpg").write_bytes((photos / "ant" / "2.jpg").read_bytes())
    rest(photos)
    os.unlink(old.cache_file)
    open_index(photos)
    image_sizes(old, range(7))  # Row 1 of the old listing is row 2 of the new.
    assert not open_index(photos).image_hw.any()


# --- progress -------------------------------------------------------------------------------------


def test_progress_is_called(photos: Path) -> None:
    seen: list[tuple[int, int]] = []
    index = open_index(photos, progress=lambda done, total: seen.append((done, total)))
    image_sizes(index, [1, 3], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2), (1, 2), (2, 2)]


def test_late_bar_is_one_line_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    from fastpipe.storage.progress import reporting

    with caplog.at_level("INFO", logger="fastpipe.storage"):
        with reporting("quick work") as report:
            report(1, 2)
        assert not caplog.records
        with reporting("slow work", delay_s=0.01) as report:
            for i in range(5):
                time.sleep(0.01)
                report(i, 5)
    assert len(caplog.records) == 1 and "slow work" in caplog.text


def test_late_bar_on_a_terminal_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastpipe.storage.progress import reporting

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with reporting("slow work", delay_s=0.0) as report:
        report(1, 5)
        time.sleep(0.2)
        report(5, 5)
    assert "slow work" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_default_extensions_are_torchvisions() -> None:
    from torchvision.datasets.folder import IMG_EXTENSIONS as THEIRS

    assert tuple(THEIRS) == IMG_EXTENSIONS
