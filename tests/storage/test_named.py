from __future__ import annotations

import json
import os
import socket
import time
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage import NAMED, Splits, named_splits, open_index, resolve
from fastpipe.storage import source as source_module
from fastpipe.storage.named import canonical_name


class FakeArrays:
    """As CIFAR10: pictures in memory, `classes`, and a `train` switch."""

    classes = ("zebra", "T-shirt/top", "0 - zero", *(f"c{k}" for k in range(8)))
    made: list[bool] = []  # noqa: RUF012

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert os.path.isdir(root)
        self.made.append(train)
        rng = np.random.default_rng(int(train))
        self.images = rng.integers(0, 256, (22 if train else 11, 4, 6, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if i >= len(self):
            raise IndexError
        return Image.fromarray(self.images[i]), i % 11


class FakeDigits:
    """As SVHN: grey here, no `classes`, NumPy labels."""

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        self.labels = np.array([3, 0, 11, 0], np.int64)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[Image.Image, np.int64]:
        return Image.new("L", (3, 3), 50 * i), self.labels[i]


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> type[FakeArrays]:
    FakeArrays.made.clear()
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeArrays)
    return FakeArrays


def test_arrays_are_exported_as_png(arrays: type[FakeArrays], tmp_path: Path) -> None:
    splits = named_splits("cifar10", tmp_path)
    assert splits.test is None
    for folder, dataset in (
        (splits.train, FakeArrays(str(tmp_path))),
        (splits.validation, FakeArrays(str(tmp_path), False)),
    ):
        index = open_index(folder)
        assert index.classes[:3] == ("00_zebra", "01_T-shirt_top", "02_zero")
        by_label: dict[int, list[bytes]] = {}
        for image, label in dataset:  # type: ignore[attr-defined]
            by_label.setdefault(label, []).append(image.tobytes())
        for label, expected in by_label.items():
            ids = np.flatnonzero(index.labels == label)
            assert [Image.open(index.path(i)).tobytes() for i in ids] == expected


def test_exported_once(arrays: type[FakeArrays], tmp_path: Path) -> None:
    assert named_splits("cifar10", tmp_path) == named_splits("CIFAR-10", tmp_path)
    assert arrays.made == [True, False]


def test_an_export_that_breaks_off_is_done_again(
    arrays: type[FakeArrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FakeArrays, "__len__", lambda self: 99)
        with pytest.raises(IndexError):
            named_splits("cifar10", tmp_path)
    assert not (tmp_path / "named" / "cifar10").exists()
    assert len(open_index(named_splits("cifar10", tmp_path).train)) == 22


def test_export_reports_progress(arrays: type[FakeArrays], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    named_splits("cifar10", tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (1, 22) and seen[-1] == (11, 11) and len(seen) == 33


def test_data_without_class_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torchvision.datasets, "SVHN", FakeDigits)
    index = open_index(named_splits("svhn", tmp_path).train, allow_empty_class=True)
    assert index.classes[0] == "00_0" and len(index.classes) == 12
    assert index.labels.tolist() == [0, 0, 3, 11]


# --- torchvision's own classes over tiny copies of the unpacked archives ----------------------------


def jpeg(path: Path, grey: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)


def assert_same_data(folder: Path, dataset: Any) -> None:
    """Every picture of torchvision's data set is in the folder, under its label."""
    index = open_index(folder, allow_empty_class=True)
    ours = sorted((index.label(i), Path(index.path(i)).read_bytes()) for i in range(len(index)))
    files = getattr(dataset, "_image_files", None) or dataset._images
    assert ours == sorted((k, Path(f).read_bytes()) for f, k in zip(files, dataset._labels, strict=True))


def test_food101(tmp_path: Path) -> None:
    root = tmp_path / "downloads" / "food101"
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        meta = {name: [f"{name}/{n}" for n in numbers] for name in ("waffles", "apple_pie")}
        for k, path in enumerate(p for paths in meta.values() for p in paths):
            jpeg(root / "food-101" / "images" / f"{path}.jpg", 20 * k)
        (root / "food-101" / "meta").mkdir(exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(meta))
    splits = named_splits("food101", tmp_path)
    assert open_index(splits.train).classes == ("0_apple_pie", "1_waffles")
    assert_same_data(splits.train, torchvision.datasets.Food101(root, "train"))
    assert_same_data(splits.validation, torchvision.datasets.Food101(root, "test"))
    linked = os.stat(open_index(splits.train).path(0))
    assert linked.st_nlink == 2, "linked, not copied"


def test_oxford_pets(tmp_path: Path) -> None:
    base = tmp_path / "downloads" / "oxfordiiitpet" / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for split, n in (("trainval", 1), ("test", 2)):
        lines = [f"Abyssinian_{n} 1 1 1", f"great_dane_{n} 2 2 1"]
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
        for k, line in enumerate(lines):
            jpeg(base / "images" / f"{line.split()[0]}.jpg", 10 * n + k)
    splits = named_splits("oxford-iiit-pet", tmp_path)
    assert open_index(splits.train).classes == ("0_Abyssinian", "1_Great_Dane")
    assert_same_data(splits.validation, torchvision.datasets.OxfordIIITPet(base.parent, "test"))


def test_flowers102(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat = pytest.importorskip("scipy.io", reason="Flowers102's labels need scipy").savemat
    base = tmp_path / "downloads" / "flowers102" / "flowers-102"
    for n in range(1, 7):
        jpeg(base / "jpg" / f"image_{n:05d}.jpg", n)
    savemat(base / "imagelabels.mat", {"labels": [5, 1, 5, 1, 102, 2]})
    savemat(base / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6]})
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_check_integrity", lambda _: True)
    splits = named_splits("flowers102", tmp_path)
    assert splits.test is not None
    for folder, split in ((splits.train, "train"), (splits.validation, "val"), (splits.test, "test")):
        assert_same_data(folder, torchvision.datasets.Flowers102(base.parent, split))
    assert len(open_index(splits.train, allow_empty_class=True).classes) == 102


def test_imagenette_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "downloads" / "imagenette320" / "imagenette2-320"
    for split in ("train", "val"):
        jpeg(base / split / "n01440764" / "1.JPEG")
    splits = named_splits("imagenette-320", tmp_path)
    assert splits == Splits(train=base / "train", validation=base / "val")


def test_incomplete_archive(tmp_path: Path) -> None:
    base = tmp_path / "downloads" / "food101" / "food-101"
    (base / "images").mkdir(parents=True)
    (base / "meta").mkdir()
    for split in ("train", "test"):
        (base / "meta" / f"{split}.json").write_text('{"pie": ["pie/1"]}')
    with pytest.raises(
        DataError, match=r"food101 was not unpacked completely: .*pie/1\.jpg.*Delete its folder"
    ):
        named_splits("food101", tmp_path)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_name_is_one_torchvision_knows(name: str) -> None:
    import inspect

    source = NAMED[name]
    parameters = inspect.signature(getattr(torchvision.datasets, source.cls).__init__).parameters
    for arguments in source.splits.values():
        assert {*arguments, "root", "download"} <= set(parameters) or any(
            p.kind is p.VAR_KEYWORD for p in parameters.values()
        )
    assert canonical_name(name) == name


# --- no internet ----------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", sorted(NAMED))
def test_no_internet_fails_fast_and_says_what_to_do(name: str, tmp_path: Path) -> None:
    if name in ("flowers102", "svhn"):
        pytest.importorskip("scipy", reason="torchvision asks for scipy before it downloads")
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        named_splits(name, tmp_path)
    assert time.monotonic() - start < 20
    text = str(caught.value)
    for part in (
        f"{name} could not be downloaded",
        NAMED[name].cls,
        "copy that folder",
        "with train/ and val/",
    ):
        assert part in text
    assert "\n" not in text
    assert not (tmp_path / "named" / name).exists()
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.HTTPError("http://x", 503, "busy", {}, None),  # type: ignore[arg-type]
        RuntimeError("File not found or corrupted."),
        TimeoutError("timed out"),
    ],
    ids=["http", "checksum", "timeout"],
)
def test_download_that_fails_otherwise(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        assert socket.getdefaulttimeout() == 15.0
        raise failure

    monkeypatch.setattr(torchvision.datasets, "MNIST", fail)
    with pytest.raises(DataError, match="mnist could not be downloaded"):
        named_splits("mnist", tmp_path)


@pytest.mark.parametrize("name", ["imagenette", "cifar10"])
def test_cache_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache directory .* cannot be written.*FASTPIPE_CACHE"):
        named_splits(name, tmp_path / "file")


def test_missing_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr(torchvision.datasets, "SVHN", fail)
    with pytest.raises(DataError, match="svhn needs the package 'scipy': pip install scipy"):
        named_splits("svhn", tmp_path)


# --- resolve --------------------------------------------------------------------------------------


def test_resolve_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "val"):
        jpeg(tmp_path / "mine" / split / "a" / "1.jpg")
    expected = Splits(train=tmp_path / "mine" / "train", validation=tmp_path / "mine" / "val")
    assert resolve(str(tmp_path / "mine")) == resolve(tmp_path / "mine") == expected
    monkeypatch.chdir(tmp_path)
    assert resolve("mine").train == Path("mine/train")
    assert resolve("./mine").train.samefile(expected.train)


def test_resolve_names(arrays: type[FakeArrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("CIFAR10", tmp_path) == named_splits("cifar10", tmp_path)
    monkeypatch.setattr(source_module, "demo_splits", lambda cache_dir: ("demo in", cache_dir))
    assert resolve("demo", tmp_path) == ("demo in", tmp_path)


def test_name_wins_over_a_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(source_module, "demo_splits", lambda _: "the demo")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert resolve("demo") == "the demo"
    assert "'./demo'" in caplog.text
    with pytest.raises(DataError, match="contains no folders"):
        resolve("./demo")


@pytest.mark.parametrize(
    ("typed", "meant"), [("cifr10", "cifar10"), ("Imagenete", "imagenette"), ("dmeo", "demo")]
)
def test_misspelt_name_suggests_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(ArgumentError, match=rf"Found: '{typed}'.*Did you mean '{meant}'\?") as caught:
        resolve(typed)
    assert "food101" in str(caught.value)


def test_nothing_near() -> None:
    with pytest.raises(ArgumentError, match="neither a folder here nor a known name") as caught:
        resolve("qqqqqqqq")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("path", ["/nowhere/at/all", "~/nowhere_at_all", "./nowhere"])
def test_missing_path(path: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        resolve(path)
