"""The turbo backend as a loader's user meets it: torchvision's batches, whatever the files hold."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image, JpegImagePlugin
from torch.utils.data import ConcatDataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import BackendError, DataLoader, FolderDataset, SampleError
from fastpipe.backends.turbo import native
from fastpipe.backends.turbo.backend import TurboBackend
from fastpipe.errors import NoEffectWarning
from fastpipe.storage import BetonDataset

pytestmark = pytest.mark.turbo_built

WORKERS = (0, 2)
CROP = transforms.RandomResizedCrop(32)
TRAIN = transforms.Compose([CROP, transforms.ToTensor()])
EVAL = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(36), transforms.ToTensor()])
PADDED = transforms.Compose([transforms.RandomCrop(48, padding=7), transforms.ToTensor()])
ENLARGED = transforms.Compose([transforms.CenterCrop(130), transforms.ToTensor()])
SHORT = transforms.Compose(
    [transforms.Resize(24, transforms.InterpolationMode.BICUBIC), transforms.ToTensor()]
)
PLAIN = transforms.ToTensor()


def photo(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 120, 2).tolist()
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / rng.uniform(4, 20) + y / rng.uniform(4, 20)) for _ in range(3)], axis=-1)
    levels = 128 + 80 * waves + rng.normal(0, 9, waves.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def exif(rotation: int = 6) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = rotation
    return made


# How the files of the folder differ; each is saved as .jpg, whatever it is.
KINDS: dict[str, Callable[[Image.Image], tuple[Image.Image, dict[str, Any]]]] = {
    "420": lambda image: (image, {}),
    "422": lambda image: (image, {"subsampling": 1}),
    "444": lambda image: (image, {"subsampling": 0, "quality": 40}),
    "grey": lambda image: (image.convert("L"), {}),
    "progressive": lambda image: (image, {"progressive": True}),
    "restarts": lambda image: (image, {"restart_marker_blocks": 2}),
    "exif": lambda image: (image, {"exif": exif()}),
    "cmyk": lambda image: (image.convert("CMYK"), {}),
    "png": lambda image: (image, {"format": "PNG"}),
    "icc": lambda image: (image, {"icc_profile": bytes(3000), "dpi": (72, 72)}),
    "comment": lambda image: (image, {"comment": b"of no meaning", "optimize": True}),
    "palette": lambda image: (image.convert("P"), {"format": "GIF"}),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 files of 3 classes: every kind three times."""
    root = tmp_path_factory.mktemp("turbo")
    for number in range(36):
        kind = list(KINDS)[number % len(KINDS)]
        image, options = KINDS[kind](photo(number))
        target = root / "abc"[number // 12] / f"{number:02}-{kind}.jpg"
        target.parent.mkdir(exist_ok=True)
        image.save(target, **{"format": "JPEG", "quality": 90, **options})
    return root


def loader_of(dataset: Any, **options: Any) -> DataLoader[Any]:
    given = {"batch_size": 8, "seed": 7, "device": "cpu", "numerics": "exact", "backend": "turbo", **options}
    return DataLoader(dataset, **given)


def batches(dataset: Any, **options: Any) -> list[tuple[torch.Tensor, Any]]:
    return [(images, labels) for images, labels, *_ in loader_of(dataset, **options)]


def expect_torchvisions(dataset: Any, workers: int, **options: Any) -> DataLoader[Any]:
    """The loader, after its epoch has been found equal to the torchvision backend's, bit for bit."""
    expected = batches(dataset, **{**options, "backend": "torchvision", "num_workers": 0})
    loader = loader_of(dataset, num_workers=workers, **options)
    found = [(images, labels) for images, labels, *_ in loader]
    assert len(found) == len(expected)
    for number, ((images, labels), (pixels, numbers)) in enumerate(zip(found, expected, strict=True)):
        assert images.dtype == pixels.dtype and torch.equal(images, pixels), f"batch {number}"
        assert type(labels) is type(numbers) and labels.dtype == numbers.dtype
        assert torch.equal(labels, numbers)
    return loader


# ---- equal batches


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("transform", [TRAIN, EVAL, PADDED, ENLARGED], ids=["train", "eval", "pad", "black"])
def test_a_folder_of_every_kind(folder: Path, transform: Any, workers: int) -> None:
    expect_torchvisions(FolderDataset(folder, transform), workers, shuffle=True)


@pytest.mark.parametrize("name", ["NEAREST", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS"])
def test_every_filter(folder: Path, name: str) -> None:
    mode = getattr(transforms.InterpolationMode, name)
    crop = transforms.RandomResizedCrop((30, 50), scale=(0.2, 1.0), interpolation=mode)
    expect_torchvisions(FolderDataset(folder, transforms.Compose([crop, transforms.ToTensor()])), 0)


@pytest.mark.parametrize("transform", [SHORT, PLAIN], ids=["short side", "whole"])
def test_sizes_that_depend_on_the_image(folder: Path, transform: Any) -> None:
    expect_torchvisions(FolderDataset(folder, transform), 2, batch_size=1)


def test_images_of_unequal_size_are_torchs_error(folder: Path) -> None:
    errors = []
    for backend in ("torchvision", "turbo"):
        with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size") as caught:
            batches(FolderDataset(folder, PLAIN), backend=backend)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_beton(mixed: Path, workers: int) -> None:
    expect_torchvisions(BetonDataset(mixed, TRAIN), workers, shuffle=True)
    expect_torchvisions(BetonDataset(mixed, EVAL), workers)


@pytest.mark.parametrize("workers", WORKERS)
def test_subsets_joined_storages_negative_and_repeated_ids(folder: Path, mixed: Path, workers: int) -> None:
    files, beton = FolderDataset(folder, TRAIN), BetonDataset(mixed, TRAIN)
    torchs = ImageFolder(str(folder), TRAIN)
    nested = Subset(ConcatDataset([Subset(files, np.arange(5, 30)), beton, torchs]), list(range(70, 3, -1)))
    for dataset in (Subset(files, [3, 19, 0, 3, -1]), nested, ConcatDataset([beton, files])):
        expect_torchvisions(dataset, workers, shuffle=True)
    ids = [0, -1, 5, 5, 5, -len(files), 7]
    expect_torchvisions(files, workers, sampler=ids, batch_size=3)


def test_an_id_beyond_the_last_is_an_index_error(folder: Path, mixed: Path) -> None:
    for dataset in (
        FolderDataset(folder, TRAIN),
        ImageFolder(str(folder), TRAIN),
        BetonDataset(mixed, TRAIN),
    ):
        for beyond in (len(dataset), -len(dataset) - 1):
            with pytest.raises(IndexError):
                batches(dataset, sampler=[0, beyond])


@pytest.mark.parametrize("workers", WORKERS)
def test_resolution_per_step(folder: Path, workers: int) -> None:
    expect_torchvisions(
        FolderDataset(folder, TRAIN), workers, shuffle=True, resolution=lambda epoch, batch: 20 + 9 * batch
    )


@pytest.mark.parametrize("labels", ["numbers", "numpy", "target_transform", "words"])
def test_labels_are_torchs(folder: Path, labels: str) -> None:
    dataset = ImageFolder(str(folder), TRAIN)
    if labels == "numpy":
        dataset.samples = [(path, np.int32(label)) for path, label in dataset.samples]
    if labels == "target_transform":
        dataset.target_transform = lambda label: label * 0.5
    if labels == "words":
        dataset.samples = [(path, ("x", label)) for path, label in dataset.samples]
        found, expected = batches(dataset, num_workers=2), batches(dataset, backend="torchvision")
        assert [[*words, numbers.tolist()] for _, (words, numbers) in found] == [
            [*words, numbers.tolist()] for _, (words, numbers) in expected
        ]
        return
    expect_torchvisions(dataset, 2, shuffle=True)


def test_uint8_batches_are_one_slab(folder: Path) -> None:
    images, *_ = next(iter(loader_of(FolderDataset(folder, TRAIN), engine="none")))
    assert images.dtype == torch.uint8 and images.shape == (8, 32, 32, 3) and images.is_contiguous()


# ---- what Pillow is asked


@pytest.mark.parametrize("workers", WORKERS)
def test_a_limit_of_pixels_is_pillows(folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning above the limit that the script sets, an error above twice it, as Pillow has it."""
    dataset = FolderDataset(folder, TRAIN)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    said = {}
    for backend in ("torchvision", "turbo"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loader = loader_of(
                dataset,
                backend=backend,
                num_workers=workers * (backend == "turbo"),
                on_error="skip",
                max_bad=1.0,
            )
            said[backend] = [labels.tolist() for _, labels in loader]
        number = sum(issubclass(one.category, Image.DecompressionBombWarning) for one in caught)
        said[backend] += [number, loader.incident_counts()]
    assert said["turbo"] == said["torchvision"]
    assert said["turbo"][-2] > 3 and said["turbo"][-1]["skipped"] > 3
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    expect_torchvisions(dataset, workers)


def test_another_reader_of_jpegs_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def inverted(file: Any, name: Any = None) -> Any:
        image = JpegImagePlugin.jpeg_factory(file, name)
        image.load()
        image.paste((1, 2, 3), (0, 0, *image.size)) if image.mode == "RGB" else None
        return image

    Image.preinit()
    monkeypatch.setitem(Image.OPEN, "JPEG", (inverted, JpegImagePlugin._accept))
    expect_torchvisions(FolderDataset(folder, TRAIN), 0)
    assert native.pillow_decides()


# ---- broken files


def broken(tmp_path: Path) -> FolderDataset:
    """16 files of 2 classes: cut off, no image, empty, a header cut off, damaged metadata; one vanishes."""
    root = tmp_path / "broken"
    for number in range(16):
        target = root / "ab"[number // 8] / f"{number:02}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(target, quality=90)
    files = sorted(root.rglob("*.jpg"))
    dataset = FolderDataset(root, TRAIN)
    data = files[1].read_bytes()
    files[1].write_bytes(data[: len(data) // 2])
    files[4].write_bytes(b"garbage" * 50)
    files[6].write_bytes(b"")
    files[9].write_bytes(files[9].read_bytes()[:90])
    files[10].write_bytes(with_segment(files[10].read_bytes(), 0xE0, b"JFIF\0\1"))
    files[12].unlink()
    return dataset


def with_segment(data: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with another segment behind its first marker."""
    return data[:2] + bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload + data[2:]


@pytest.mark.parametrize("workers", WORKERS)
def test_each_broken_file_raises_pillows_error(tmp_path: Path, workers: int) -> None:
    dataset = broken(tmp_path)
    said = {}
    for backend, number in (("torchvision", 0), ("turbo", workers)):
        iterator = iter(loader_of(dataset, backend=backend, num_workers=number, batch_size=1))
        outcomes: list[Any] = []
        for _ in range(len(dataset)):
            try:
                outcomes.append(next(iterator)[1].tolist())
            except SampleError as error:
                outcomes.append((str(error), error.path, error.sample_id, error.lasting))
        said[backend] = outcomes
    assert said["turbo"] == said["torchvision"]
    assert sum(isinstance(one, tuple) for one in said["turbo"]) == 6


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_skip_and_replace(
    tmp_path: Path, workers: int, on_error: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    dataset = broken(tmp_path)
    kept, counts, lists = {}, {}, {}
    for backend, number in (("torchvision", 0), ("turbo", workers)):
        options = {"on_error": on_error, "max_bad": 1.0, "backend": backend, "num_workers": number}
        path = tmp_path / f"{backend}.txt"
        with caplog.at_level(logging.CRITICAL):
            for epoch in range(2):  # in the second the quarantine list is used
                loader = loader_of(dataset, quarantine=path, **options)
                loader.set_epoch(epoch)
                kept[backend, epoch] = [(images, labels.tolist()) for images, labels in loader]
                counts[backend, epoch] = loader.incident_counts()
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        lists[backend] = [(one["path"], one["action"], one["reason"]) for one in entries]
    assert lists["turbo"] == lists["torchvision"]
    for epoch in range(2):
        assert counts["turbo", epoch] == counts["torchvision", epoch]
        ours, theirs = kept["turbo", epoch], kept["torchvision", epoch]
        assert [labels for _, labels in ours] == [labels for _, labels in theirs]
        assert all(torch.equal(one, other) for (one, _), (other, _) in zip(ours, theirs, strict=True))
    assert sum(counts["turbo", 0].values()) == 6


def test_a_table_with_another_size_is_pillows_error(kit: Any) -> None:
    entries = [kit.as_jpeg(kit.smooth(i, 48, 40), i) for i in range(4)]
    entries[2] = kit.entry(payload=kit.jpeg(kit.smooth(4, 64, 80)), size=(48, 40), label=2)
    said = []
    for backend in ("torchvision", "turbo"):
        with pytest.raises(SampleError, match="but the table says 48 x 40") as caught:
            batches(BetonDataset(kit.write(entries), TRAIN), backend=backend)
        said.append(str(caught.value).replace("0.beton", "").replace("1.beton", ""))
    assert said[0] == said[1]


def test_an_empty_batch_is_torchs_error(folder: Path) -> None:
    for backend in ("torchvision", "turbo"):
        with pytest.raises(IndexError, match="list index out of range"):
            batches(FolderDataset(folder, TRAIN), batch_sampler=[[]], batch_size=1, backend=backend)


# ---- what it needs and says


def test_without_the_module_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise BackendError("the module fastpipe._turbo was not built")

    monkeypatch.setattr(native, "open_native", missing)
    with pytest.raises(BackendError, match=r"was not built.*C\+\+ compiler.*install"):
        iter(loader_of(FolderDataset(folder, TRAIN)))
    said = str(loader_of(FolderDataset(folder, TRAIN), backend="auto").explain())
    assert "not turbo: the module fastpipe._turbo was not built" in said


def test_what_it_cannot_do_is_refused(folder: Path) -> None:
    pipeline = transforms.Compose([CROP, transforms.ColorJitter(0.4), transforms.ToTensor()])
    with pytest.raises(BackendError, match="steps that stay on the workers"):
        iter(loader_of(FolderDataset(folder, pipeline)))
    assert TurboBackend().capabilities.workers == "threads"


def test_arguments_without_effect_warn(folder: Path) -> None:
    dataset = FolderDataset(folder, TRAIN)
    with pytest.warns(NoEffectWarning, match="worker_init_fn has no effect with backend='turbo'"):
        iter(loader_of(dataset, num_workers=1, worker_init_fn=print))
    with pytest.warns(NoEffectWarning, match="multiprocessing_context has no effect with backend='turbo'"):
        iter(loader_of(dataset, num_workers=1, multiprocessing_context="spawn"))


def test_the_threads_carry_its_name_and_end_with_the_iterator(folder: Path) -> None:
    iterator = iter(loader_of(FolderDataset(folder, TRAIN), num_workers=2, batch_size=1))
    next(iterator)
    assert sum(thread.name == "fastpipe-turbo" for thread in threading.enumerate()) == 2
    del iterator
    deadline = time.monotonic() + 10
    while any(thread.name == "fastpipe-turbo" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _in_child(path: str, results: Any) -> None:
    found = batches(FolderDataset(path, TRAIN), num_workers=2)
    results.put([float(images.double().numpy().sum()) for images, _ in found])


def test_after_a_fork_the_threads_are_made_anew(folder: Path) -> None:
    expected = [
        float(images.double().numpy().sum())
        for images, _ in batches(FolderDataset(folder, TRAIN), num_workers=2)
    ]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_child, args=(str(folder), results))
    child.start()
    try:
        assert results.get(timeout=100) == pytest.approx(expected, rel=1e-12)
    finally:
        child.join(20)
        if child.is_alive():
            psutil.Process(child.pid).kill()


def test_two_iterators_at_once(folder: Path) -> None:
    dataset = FolderDataset(folder, TRAIN)
    one, other = loader_of(dataset, num_workers=2), loader_of(dataset, num_workers=1)
    for (images, labels), (pixels, numbers) in zip(one, other, strict=True):
        assert torch.equal(images, pixels) and torch.equal(labels, numbers)


def encoded(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()
