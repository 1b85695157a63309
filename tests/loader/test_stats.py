"""`loader.stats()`: what was delivered, by whom it was decoded, and what it cost."""

from __future__ import annotations

import dataclasses
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import transforms

from fastpipe import DataLoader, FolderDataset

TRAIN = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 files of 2 classes: 2 CMYK JPEGs, 2 PNGs, one that is no image."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for number in range(12):
        image = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
        target = tmp_path / "data" / "ab"[number // 6] / f"{number:02}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        if number in (2, 8):
            image = image.convert("CMYK")
        image.save(target, format="PNG" if number in (3, 9) else "JPEG")
    (tmp_path / "data/a/05.jpg").write_bytes(b"garbage" * 30)
    return tmp_path / "data"


def loader_of(folder: Path, **options: Any) -> DataLoader[Any]:
    given = {"batch_size": 4, "seed": 1, "device": "cpu", "on_error": "skip", "max_bad": 1.0, **options}
    return DataLoader(FolderDataset(folder, TRAIN), **given)


@pytest.mark.parametrize(
    ("backend", "workers"),
    [
        ("torchvision", 0),
        ("torchvision", 1),
        pytest.param("turbo", 0, marks=pytest.mark.turbo_built),
        pytest.param("turbo", 2, marks=pytest.mark.turbo_built),
        pytest.param("dali", 0, marks=pytest.mark.dali),
    ],
)
def test_every_backend_counts_what_it_delivers(folder: Path, backend: str, workers: int) -> None:
    loader = loader_of(folder, backend=backend, num_workers=workers)
    assert dataclasses.asdict(loader.stats()) == {
        "images": 0,
        "to_pillow": None,
        "skipped": 0,
        "replaced": 0,
        "seconds_waited": 0.0,
        "cpu_seconds": None,
    }
    iterator = iter(loader)
    num = len(next(iterator)[1])
    assert loader.stats().images == num, "what is prefetched is not counted"
    for _ in iterator:
        pass
    stats = loader.stats()
    assert (stats.images, stats.skipped, stats.replaced) == (11, 1, 0)
    assert stats.seconds_waited > 0
    if backend != "dali":
        assert stats.cpu_seconds is not None and 0 < stats.cpu_seconds < 20
    for _ in loader:
        pass
    assert (loader.stats().images, loader.stats().skipped) == (22, 2), "over all epochs"


@pytest.mark.turbo_built
def test_turbo_names_what_pillow_decodes(folder: Path) -> None:
    loader = loader_of(folder, backend="turbo", num_workers=2)
    assert "handed to Pillow" not in str(loader.explain())
    list(loader)
    found = loader.stats().to_pillow
    assert found is not None and found["components"] == 2 and found["not_jpeg"] == 3
    assert sum(found.values()) == 5
    assert "handed to Pillow: 5 of 11 images so far (3 not_jpeg, 2 components)" in str(loader.explain())


@pytest.mark.turbo_built
def test_replaced_samples_are_counted(folder: Path) -> None:
    loader = loader_of(folder, backend="turbo", on_error="replace")
    list(loader)
    assert (loader.stats().images, loader.stats().skipped, loader.stats().replaced) == (12, 0, 1)


@pytest.mark.ffcv
def test_ffcv_counts_what_it_hands_over(folder: Path, tmp_path: Path) -> None:
    from fastpipe.storage import BetonDataset, write_beton

    (folder / "a/05.jpg").unlink()
    write_beton(folder, tmp_path / "data.beton")
    loader: Any = DataLoader(
        BetonDataset(tmp_path / "data.beton", TRAIN),
        4,
        backend="ffcv",
        numerics="exact",
        device="cpu",
        seed=1,
    )
    list(loader)
    assert loader.stats().images == 11 and sum(loader.stats().to_pillow.values()) == 4
    assert loader.stats().cpu_seconds > 0


class Slow(Dataset[Any]):
    """A data set of the script's own."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.01)
        return torch.tensor(index)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("seed", [None, 3], ids=["torch's own iterator", "keyed"])
def test_what_is_not_lifted_is_counted_too(workers: int, seed: int | None) -> None:
    loader: Any = DataLoader(Slow(), 4, num_workers=workers, seed=seed)
    list(loader)
    stats = loader.stats()
    assert stats.images == 6 and stats.to_pillow is None and stats.cpu_seconds is None
    assert stats.seconds_waited >= 0.04


def test_another_process_counts_anew(folder: Path) -> None:
    loader = loader_of(folder)
    list(loader)
    assert pickle.loads(pickle.dumps(loader)).stats().images == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        loader.stats().images = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("backend", "workers"),
    [("torchvision", 0), ("torchvision", 2), pytest.param("turbo", 0, marks=pytest.mark.turbo_built)],
)
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_incidents_are_those_of_the_newest_epoch(
    folder: Path, backend: str, workers: int, on_error: str
) -> None:
    loader = loader_of(folder, backend=backend, num_workers=workers, on_error=on_error, quarantine=False)
    assert loader.incidents() == ()
    for _ in range(2):
        for place, _batch in enumerate(loader):
            # Sample 5 lies in the second batch: what is only prefetched is not told.
            assert [one.sample_id for one in loader.incidents()] == ([5] if place else [])
        (one,) = loader.incidents()
        assert one.key.endswith("05.jpg") and "05.jpg" in one.reason
        assert one.action == {"skip": "skipped", "replace": "replaced"}[on_error]
        assert (one.substitute is None) == (on_error == "skip")
