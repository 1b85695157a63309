"""backend="dali": the torchvision backend's order, boxes and pixels, and epochs that torch users expect."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe.backends.dali import backend as dali
from fastpipe.backends.dali import pipeline as dali_pipeline
from fastpipe.backends.dali.source import DaliSource
from fastpipe.errors import BackendError, MissingExtraError, NoEffectWarning
from fastpipe.storage.beton.writer import write_beton
from fastpipe.types import Machine

pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
pytestmark = [
    pytest.mark.dali,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
VALIDATION = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])
PADDED = transforms.Compose([transforms.Resize(30), transforms.CenterCrop(48), transforms.ToTensor()])
CROPPED = transforms.Compose(
    [transforms.Resize((40, 50)), transforms.RandomCrop(44, padding=4), transforms.ToTensor()]
)
CUBIC = transforms.Compose(
    [
        transforms.RandomResizedCrop(32, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
    ]
)


def load(root: Path, transform: Any = TRAIN, backend: str = "dali", **options: Any) -> fastpipe.DataLoader:
    options = {"batch_size": 7, "seed": 5, "engine": "none"} | options
    return fastpipe.DataLoader(ImageFolder(str(root), transform), backend=backend, **options)


def pixels(loader: fastpipe.DataLoader) -> list[torch.Tensor]:
    return [batch[0] for batch in loader]


def same(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a, b) for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("transform", [TRAIN, VALIDATION, PADDED, CROPPED, CUBIC])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_exact_is_the_torchvision_backend(photos: Path, transform: Any, workers: int) -> None:
    # Ids repeat, so that a box by sample id instead of by batch position would show.
    order = [0, 5, 5, 9, 23, 5, 1, 0, 7, 7, 12, 20, 3, 15, 8, 16, 5]
    found = list(load(photos, transform, sampler=order, num_workers=workers, numerics="exact"))
    expected = list(load(photos, transform, "torchvision", sampler=order))
    assert [len(batch[0]) for batch in found] == [7, 7, 3]
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
        assert mine[0].is_contiguous() and mine[0].dtype == torch.uint8
        np.testing.assert_array_equal(mine[2].flip, theirs[2].flip)


@pytest.mark.parametrize("transform", [TRAIN, VALIDATION, PADDED, CROPPED])
def test_fast_keeps_its_tolerance(photos: Path, transform: Any) -> None:
    order = [
        i for i in range(24) if i % 8 not in (0, 7)
    ]  # without the grey and PNG files, which Pillow resizes
    found = torch.cat(pixels(load(photos, transform, sampler=order, numerics="fast", num_workers=1)))
    expected = torch.cat(pixels(load(photos, transform, "torchvision", sampler=order)))
    difference = (found.int() - expected.int()).abs()
    assert 0 < difference.double().mean() < 0.5  # 0 would mean that Pillow did it
    if transform is VALIDATION:  # the outer pixels of the resized image are cut away
        assert difference.max() <= 1
    assert difference.max() <= 40


def test_fast_does_not_resize_bicubic_itself(photos: Path) -> None:
    assert same(pixels(load(photos, CUBIC, numerics="fast")), pixels(load(photos, CUBIC, "torchvision")))


def test_a_beton_of_jpegs_and_raw_images(photos: Path, tmp_path: Path) -> None:
    write_beton(photos, tmp_path / "x.beton", num_workers=1)
    order = [0, 7, 7, 12, 23, 3, 8, 15, 15]  # 7, 15 and 23 are PNGs, and so stored raw
    options: dict[str, Any] = {"batch_size": 4, "sampler": order, "seed": 5, "engine": "none"}
    options |= {"transform": TRAIN, "numerics": "exact"}
    found = fastpipe.DataLoader(tmp_path / "x.beton", backend="dali", num_workers=2, **options)
    assert set(found.dataset.beton.modes.tolist()) == {0, 1}
    expected = pixels(fastpipe.DataLoader(tmp_path / "x.beton", backend="torchvision", **options))
    assert same(pixels(found), expected)
    assert same(pixels(load(photos, sampler=order, batch_size=4)), expected)


def test_whole_images(tmp_path: Path, photos: Path) -> None:
    from PIL import Image

    (tmp_path / "a").mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))[1:5]):
        Image.open(path).convert("RGB").resize((40, 30)).save(tmp_path / "a" / f"{number}.jpg")
    only = transforms.ToTensor()
    assert same(pixels(load(tmp_path, only)), pixels(load(tmp_path, only, "torchvision")))
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        pixels(load(photos, only))


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_are_whole_after_a_break(photos: Path, workers: int) -> None:
    loader = load(photos, shuffle=True, num_workers=workers)
    expected = load(photos, backend="torchvision", shuffle=True)
    next(iter(loader)), next(iter(expected))
    assert same(pixels(loader), pixels(expected))
    assert same(pixels(loader), pixels(expected))


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_two_loaders_at_once_and_batches_of_one(photos: Path, numerics: Any) -> None:
    alone = pixels(load(photos, batch_size=1, numerics=numerics, num_workers=1))
    pairs = zip(
        load(photos, batch_size=1, numerics=numerics, num_workers=1),
        load(photos, batch_size=1, numerics=numerics),
        strict=True,
    )
    both = [(a[0], b[0]) for a, b in pairs]
    assert len(alone) == 24
    assert same([a for a, _ in both], alone) and same([b for _, b in both], alone)


@pytest.mark.parametrize("workers", [0, 2])
def test_another_resolution_in_mid_epoch(photos: Path, workers: int) -> None:
    loader = load(photos, batch_size=4, num_workers=workers, numerics="fast")
    expected = load(
        photos, batch_size=4, num_workers=0, numerics="fast", resolution=lambda e, b: 32 if b < 2 else 48
    )
    found = []
    for number, batch in enumerate(loader):
        found.append(batch[0])
        if number == 1:
            loader.set_resolution(48)
    assert same(found, pixels(expected))
    assert [image.shape[1] for image in found] == [32, 32, 48, 48, 48, 48]


def test_a_batch_sampler_may_grow_its_batches(photos: Path) -> None:
    batches = [[0, 1], [2, 3, 4, 5, 6], [7], list(range(8, 24))]
    dataset = ImageFolder(str(photos), TRAIN)
    options: dict[str, Any] = {"batch_sampler": batches, "seed": 5, "engine": "none"}
    found = fastpipe.DataLoader(dataset, backend="dali", num_workers=2, **options)
    assert same(pixels(found), pixels(fastpipe.DataLoader(dataset, backend="torchvision", **options)))


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_delivered_batch_is_the_consumers(photos: Path, numerics: Any) -> None:
    kept, copies = [], []
    for batch in load(photos, batch_size=3, num_workers=2, numerics=numerics, persistent_workers=True):
        kept.append(batch[0])
        copies.append(batch[0].clone())
    assert same(kept, copies)
    kept[0].fill_(7)  # writable, and nobody else's
    assert same(kept[1:], copies[1:])


def test_without_a_seed_order_and_generator_are_torchs(photos: Path) -> None:
    def epoch(backend: str) -> tuple[list[int], torch.Tensor]:
        torch.manual_seed(3)
        loader = load(photos, backend=backend, seed=None, shuffle=True, num_workers=1)
        labels = torch.cat([batch[1] for batch in loader]).tolist()
        return labels, torch.get_rng_state()

    (mine, my_state), (theirs, their_state) = epoch("dali"), epoch("torchvision")
    assert mine == theirs and torch.equal(my_state, their_state)


def source_of(loader: fastpipe.DataLoader) -> DaliSource:
    source = loader._supply.persistent
    assert isinstance(source, DaliSource)
    return source


def test_a_pipeline_is_kept_for_the_next_epoch_and_not_after_a_break(photos: Path) -> None:
    loader = load(photos, num_workers=1, persistent_workers=True)
    first = pixels(loader)
    runner = source_of(loader)._idle
    assert runner is not None
    pixels(loader)
    assert source_of(loader)._idle is runner
    for _ in loader:
        break
    fresh = load(photos, num_workers=1)
    for _ in range(3):
        next(iter(fresh))
    assert len(pixels(loader)) == len(first)


def test_a_pipeline_that_takes_no_batch_is_an_error_and_no_end(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(runner: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(dali_pipeline.Runner, "submit", submit)
    with pytest.raises(RuntimeError, match="planted"):
        list(load(photos))


def num_tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("persistent", [False, True])
def test_thirty_broken_epochs_leave_no_thread_and_no_memory(photos: Path, persistent: bool) -> None:
    loader = load(photos, batch_size=4, num_workers=2, persistent_workers=persistent)

    def broken_off() -> tuple[int, float]:
        for number, _ in enumerate(loader):
            if number == 1:
                break
        return num_tasks(), resident_mb()

    for _ in range(5):
        tasks, memory = broken_off()
    for _ in range(30):
        tasks_later, memory_later = broken_off()
    # A joined thread stays in the list until the system has ended it.
    deadline = time.monotonic() + 10
    while tasks_later > tasks and time.monotonic() < deadline:
        time.sleep(0.01)
        tasks_later = num_tasks()
    assert tasks_later <= tasks
    assert memory_later < memory + 25


def test_a_failing_sampler_raises_after_the_batches_before_it(photos: Path) -> None:
    def ids() -> Any:
        yield from range(14)
        raise KeyError("my sampler")

    class Mine(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Any:
            return ids()

        def __len__(self) -> int:
            return 24

    found = []
    with pytest.raises(KeyError, match="my sampler"):
        found.extend(len(batch[0]) for batch in load(photos, sampler=Mine(), num_workers=1))
    assert found == [7, 7]


def test_probe_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, machine = dali.DaliBackend(), Machine(cpus=2)
    assert backend.probe(machine).ok

    def absent() -> Any:
        raise MissingExtraError("nvidia-dali-cuda130", "dali", 'backend="dali"')

    monkeypatch.setattr(dali, "load_dali", absent)
    answer = backend.probe(machine)
    assert not answer.ok and "nvidia-dali-cuda130" in answer.reason
    assert "pip install nvidia-dali-cuda130" in answer.remedy


def test_a_missing_package_and_a_broken_one_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(MissingExtraError, match="pip install nvidia-dali-cuda130"):
        dali_pipeline.load_dali()


def test_steps_of_the_script_are_refused(photos: Path) -> None:
    steps = transforms.Compose([transforms.RandomResizedCrop(32), lambda image: image, transforms.ToTensor()])
    with pytest.raises(BackendError, match="dali"):
        pixels(load(photos, steps))


def test_what_has_no_effect_is_said(photos: Path) -> None:
    with pytest.warns(NoEffectWarning, match="worker_init_fn has no effect with backend='dali'"):
        pixels(load(photos, num_workers=1, worker_init_fn=print))
