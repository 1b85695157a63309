"""Every data source trains the demo's photos to the same weights as their folder, bit for bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import ArgumentError, ArrayDataset, DataLoader, ImageList, augment, from_csv, from_hugging_face
from fastpipe.storage import resolve, write_beton

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
PHOTOS = 96


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the demo's training photos: the first of every class."""
    root = tmp_path_factory.mktemp("demo") / "photos"
    found = ImageFolder(str(resolve("demo").train))
    each = PHOTOS // len(found.classes)
    for name in found.classes:
        (root / name).mkdir(parents=True)
        for path in sorted((Path(found.root) / name).iterdir())[:each]:
            (root / name / path.name).symlink_to(path)
    return root


def rows_of(folder: Path) -> list[tuple[str, str]]:
    found = ImageFolder(str(folder))
    return [(path, found.classes[label]) for path, label in found.samples]


def as_list(folder: Path) -> Any:
    paths, labels = zip(*rows_of(folder), strict=True)
    return ImageList(paths, labels, TRAIN)


def as_csv(folder: Path) -> Any:
    file = folder.parent / "photos.csv"
    with open(file, "w", newline="") as handle:
        csv.writer(handle).writerows([("path", "label"), *rows_of(folder)])
    return from_csv(file, transform=TRAIN)


def as_json_lines(folder: Path) -> Any:
    file = folder.parent / "photos.jsonl"
    file.write_text("\n".join(json.dumps({"path": path, "label": label}) for path, label in rows_of(folder)))
    return from_csv(file, transform=TRAIN)


def as_parquet(folder: Path) -> Any:
    parquet = pytest.importorskip("pyarrow.parquet", reason="tables: pyarrow is not installed")
    arrow = pytest.importorskip("pyarrow", reason="tables: pyarrow is not installed")
    paths, labels = zip(*rows_of(folder), strict=True)
    parquet.write_table(arrow.table({"path": paths, "label": labels}), folder.parent / "photos.parquet")
    return from_csv(folder.parent / "photos.parquet", transform=TRAIN)


def as_hugging_face(folder: Path) -> Any:
    datasets = pytest.importorskip("datasets", reason="tables: datasets is not installed")
    found = ImageFolder(str(folder))
    columns = {
        "image": [{"path": None, "bytes": Path(path).read_bytes()} for path, _ in found.samples],
        "label": found.targets,
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=found.classes)}
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return from_hugging_face(made, transform=TRAIN)


class Own(Dataset[tuple[Any, int]]):
    """A data set as people write them."""

    def __init__(self, folder: Path) -> None:
        self.files = [Path(path) for path, _ in rows_of(folder)]
        self.labels = ImageFolder(str(folder)).targets
        self.transform = TRAIN

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.open(self.files[index]).convert("RGB")
        return self.transform(image), self.labels[index]


def as_beton(folder: Path) -> str:
    file = folder.parent / "photos.beton"
    if not file.exists():
        write_beton(str(folder), file)
    return str(file)


SOURCES: list[Callable[[Path], Any]] = [
    *(as_list, as_csv, as_json_lines, as_parquet, as_hugging_face, Own, as_beton)
]


def trained(dataset: Any, **options: Any) -> list[torch.Tensor]:
    """The losses of two epochs with RandAugment and MixUp, and the weights after them."""
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 16)
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    settings = {"batch_size": 16, "shuffle": True, "drop_last": True, "seed": 5, "num_classes": 16, **options}
    specs = [augment.RandAugment(space="composer", depth=1), augment.MixUp(0.2)]
    loader: Any = DataLoader(dataset, augment=specs, **settings)
    losses = []
    for _ in range(2):
        for images, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    assert loader.explain().lifted, loader.explain().reason
    assert len(losses) == 2 * (PHOTOS // 16) and losses[-1] < losses[0]
    return [torch.stack(losses), *(weight.detach() for weight in model.parameters())]


@pytest.fixture(scope="module")
def expected(demo: Path) -> list[torch.Tensor]:
    return trained(ImageFolder(str(demo), TRAIN), backend="torchvision")


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize(
    "backend", ["torchvision", pytest.param("turbo", marks=pytest.mark.turbo_built), "auto"]
)
def test_a_source_trains_as_the_folder_bit_for_bit(
    demo: Path, expected: list[torch.Tensor], make: Callable[[Path], Any], backend: str
) -> None:
    if make is Own and backend == "turbo":
        with pytest.raises(ArgumentError, match="turbo decodes files, and a __getitem__ of one's own"):
            trained(make(demo), backend=backend)
        return
    # The default for .beton files is fast, as FFCV's decoder is.
    more = {"transform": TRAIN, "numerics": "exact"} if make is as_beton else {}
    found = trained(make(demo), backend=backend, **more)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("backend", ["torchvision", pytest.param("turbo", marks=pytest.mark.turbo_built)])
def test_arrays_train_as_the_folder_of_their_pixels(demo: Path, tmp_path: Path, backend: str) -> None:
    found = ImageFolder(str(demo))
    pixels = np.stack([np.asarray(image.resize((40, 48))) for image, _ in found])
    for number, (image, label) in enumerate(zip(pixels, found.targets, strict=True)):
        (tmp_path / found.classes[label]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / found.classes[label] / f"{number:03}.png")
    folder = ImageFolder(str(tmp_path), TRAIN)
    assert folder.targets == found.targets
    expected = trained(folder, backend=backend)
    arrays = ArrayDataset(pixels, found.targets, TRAIN)
    assert all(
        torch.equal(one, other) for one, other in zip(trained(arrays, backend=backend), expected, strict=True)
    )
