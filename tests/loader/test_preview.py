"""`loader.preview()`: its pixels are the batches', its words are the draws, and the loader is left alone."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from PIL import Image, ImageEnhance, ImageOps
from torch.utils.data import Dataset, IterableDataset, Subset
from torchvision.datasets import ImageFolder

from fastpipe import ArgumentError, DataLoader, augment
from fastpipe.loader.preview.result import Preview
from fastpipe.rng import permutation
from fastpipe.types import Applied

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRAIN = v1.Compose(
    [v1.RandomResizedCrop(48), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)]
)
HOT = [augment.RandAugment(depth=2, severity=9.0), augment.ColOut(p_row=0.1, p_col=0.1), augment.MixUp(0.4)]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}


def levels(images: torch.Tensor) -> np.ndarray:
    """The levels behind normalised images, by the formula alone."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    values = (images.double() * std + mean) * 255
    return values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _hot(folder: Path, **options: Any) -> DataLoader[Any]:
    settings = {"shuffle": True, "seed": 7, "augment": HOT, "num_classes": 24, **options}
    return DataLoader(ImageFolder(str(folder), TRAIN), 8, **settings)


def test_pixels_and_batch_are_those_of_the_loader(one_a_class: Path) -> None:
    loader = _hot(one_a_class, resolution=lambda epoch, batch: 32 + 8 * epoch)
    rows = loader.preview(10, epochs=(0, 2)).rows
    assert [row.epoch for row in rows] == [0, 2] * 10
    assert [row.id for row in rows[::2]] == permutation(7, 0, 24)[:10].tolist()
    for epoch in (0, 2):
        loader.set_epoch(epoch)
        found = {}
        for number, batch in enumerate(loader):
            for image, label in zip(levels(batch[0]), batch.hard_labels.tolist(), strict=True):
                found[label] = (number, image)
        for row in rows:
            if row.epoch == epoch:
                number, image = found[row.id]
                assert row.batch == number and np.array_equal(row.pixels, image)
                assert image.shape == (int(0.9 * (32 + 8 * epoch)),) * 2 + (3,)


def _by_pillow(image: Image.Image, one: Applied) -> Image.Image:
    """One named operation, by Pillow and numpy alone."""
    s = one.settings
    if "matrix" in s:
        way, fill = FILTERS[s["interpolation"]], s["fill"]
        return image.transform(image.size, Image.Transform.AFFINE, s["matrix"], way, fillcolor=fill)
    enhance = {name: getattr(ImageEnhance, name.title()) for name in ("color", "contrast", "sharpness")}
    enhance["brightness"] = ImageEnhance.Brightness
    if one.name in enhance:
        return enhance[one.name](image).enhance(s["value"])
    simple: dict[str, Callable[[], Image.Image]] = {
        "crop": lambda: image.crop((s["left"], s["top"], s["left"] + s["width"], s["top"] + s["height"])),
        "resize": lambda: image.resize((s["width"], s["height"]), FILTERS[s["interpolation"]]),
        "flip": lambda: ImageOps.mirror(image),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, int(s["value"])),
        "solarize": lambda: ImageOps.solarize(image, s["value"]),
        "colout": lambda: Image.fromarray(np.asarray(image)[list(s["rows"])][:, list(s["columns"])]),
    }
    return simple[one.name]()


def test_the_named_operations_give_the_pixels(one_a_class: Path) -> None:
    """All 24 images are shown, so that every partner of MixUp is among them."""
    dataset = ImageFolder(str(one_a_class), TRAIN)
    rows = _hot(one_a_class).preview(24, epochs=(3,)).rows
    alone, names = {}, set()
    for row in rows:
        image = dataset.loader(dataset.samples[row.id][0])
        for one in row.operations[:-1]:
            image = _by_pillow(image, one)
        alone[row.id] = np.asarray(image, dtype=np.float64)
        names |= {one.name for one in row.operations}
    assert len(rows) == 24 and len(names) >= 12 and "colout" in names
    for row in rows:
        mix = row.operations[-1]
        assert mix.name == "mixup"
        weight, partner = mix.settings["weight"], mix.settings["partner"]
        mixed = (1 - weight) * alone[row.id] + weight * alone[partner]
        assert np.abs(mixed - row.pixels).max() <= 0.51
        if weight >= 0.005 and partner != row.id:
            assert row.label == f"{row.id:02} {1 - weight:.2f} + {partner:02} {weight:.2f}"


def test_cutmix_erasing_and_the_centre_crop_are_named(one_a_class: Path) -> None:
    steps = [v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize(MEAN, STD)]
    steps.append(v1.RandomErasing(p=1.0))
    dataset = ImageFolder(str(one_a_class), v1.Compose(steps))
    cut = [augment.CutMix(1.0)]
    rows = DataLoader(dataset, 24, seed=2, augment=cut, num_classes=24).preview(24).rows
    mean = np.round(np.array(MEAN) * 255)
    for row in rows:
        assert [one.name for one in row.operations[:2]] == ["resize", "crop"]
        erased, mixed = row.operations[2:]
        s, box = erased.settings, mixed.settings
        inside = np.zeros((32, 32), bool)
        inside[s["top"] : s["top"] + s["height"], s["left"] : s["left"] + s["width"]] = True
        inside[box["top"] : box["top"] + box["height"], box["left"] : box["left"] + box["width"]] = False
        assert erased.name == "erase" and mixed.name == "cutmix"
        assert (row.pixels[inside] == mean).all()
        assert box["weight"] == pytest.approx(box["height"] * box["width"] / 32**2)
    assert str(rows[0].operations[2]).startswith("erase ")


def test_an_image_that_an_epoch_leaves_out_is_said_to_be_absent(one_a_class: Path) -> None:
    rows = DataLoader(ImageFolder(str(one_a_class), TRAIN), 5, shuffle=True, drop_last=True, seed=4).preview(
        24, epochs=(0, 1)
    )
    first, second = ({int(one) for one in permutation(4, epoch, 24)[:20]} for epoch in (0, 1))
    assert {row.id for row in rows.rows} == first
    assert {row.id for row in rows.rows if row.pixels is None} == first - second != set()
    assert rows.image.width > 0


@pytest.mark.parametrize("workers", [{}, {"num_workers": 1, "persistent_workers": True}])
def test_without_a_seed_the_next_epoch_is_shown(one_a_class: Path, workers: dict[str, Any]) -> None:
    torch.manual_seed(5)
    loader = DataLoader(ImageFolder(str(one_a_class), TRAIN), 6, shuffle=True, **workers)
    list(loader)
    preview = loader.preview(6)
    images, labels = next(iter(loader))
    assert [row.id for row in preview.rows] == labels.tolist()
    assert np.array_equal(np.stack([row.pixels for row in preview.rows]), levels(images))
    assert "without seed=" in preview.notes[0]


class Own(Dataset[Any]):
    """A script's own data set: its transform has a generator of its own."""

    def __init__(self, folder: Path) -> None:
        self.inner = ImageFolder(str(folder))
        self.transform = Noise()

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        image, label = self.inner[index]
        return self.transform(v1.functional.to_tensor(image.resize((32, 32)))), label


class Noise:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return (image + float(self.rng.uniform(0, 0.1)) + torch.rand(()) * 0.1).clamp(0, 1)


def _own_step(image: Image.Image) -> Image.Image:
    return image.rotate(float(np.random.rand()) * 90)


LOADERS: dict[str, Callable[[Path], DataLoader[Any]]] = {
    "seed": _hot,
    "global generator": lambda folder: DataLoader(ImageFolder(str(folder), TRAIN), 5, shuffle=True),
    "own generator": lambda folder: DataLoader(
        ImageFolder(str(folder), TRAIN), 5, shuffle=True, generator=torch.Generator().manual_seed(1)
    ),
    "persistent worker": lambda folder: DataLoader(
        ImageFolder(str(folder), TRAIN), 5, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "steps on the worker": lambda folder: DataLoader(
        ImageFolder(str(folder), v1.Compose([v1.CenterCrop(32), _own_step, Noisy(), v1.ToTensor()])), 5
    ),
    "subset": lambda folder: DataLoader(Subset(Own(folder), range(9)), 4, shuffle=True),
    "nothing lifted": lambda folder: DataLoader(Own(folder), 5, shuffle=True),
}


class Noisy:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.rotate(float(self.rng.uniform(0, 90)))


@pytest.mark.parametrize("name", LOADERS)
def test_the_loader_goes_on_as_if_there_had_been_no_preview(one_a_class: Path, name: str) -> None:
    runs = []
    for looks in (False, True):
        torch.manual_seed(3)
        np.random.seed(3)
        loader = LOADERS[name](one_a_class)
        found = []
        for _ in range(2):
            if looks:
                loader.preview(3)
            for number, batch in enumerate(loader):
                if looks and number == 1:
                    loader.preview(3)
                found.append(batch[0])
        found.append(torch.rand(3))
        runs.append((found, loader.state_dict()["epoch"], loader.incident_counts()))
    assert runs[0][1:] == runs[1][1:]
    assert all(torch.equal(one, other) for one, other in zip(runs[0][0], runs[1][0], strict=True))


def test_what_is_not_lifted_shows_pixels_and_says_why(one_a_class: Path) -> None:
    loader = DataLoader(Own(one_a_class), 4, seed=6, shuffle=True)
    preview = loader.preview(3)
    images, labels = next(iter(loader))
    assert [row.id for row in preview.rows] == labels[:3].tolist()
    assert all(row.operations == () for row in preview.rows)
    assert "nothing is lifted" in preview.notes[0] and "Own is not an image folder" in preview.notes[0]
    # The data set's own generator goes on with each call, so only those before it are equal.
    assert np.abs(preview.rows[0].pixels / 255 - images[0].permute(1, 2, 0).numpy()).max() < 0.002
    with pytest.raises(ArgumentError, match="epochs must be one, since nothing was lifted"):
        loader.preview(3, epochs=(0, 1))


def test_normalised_values_that_are_not_lifted_become_levels(one_a_class: Path) -> None:
    loader = DataLoader(ImageFolder(str(one_a_class), TRAIN), 4, backend="torch", seed=1)
    preview = loader.preview(4)
    assert np.array_equal(np.stack([row.pixels for row in preview.rows]), levels(next(iter(loader))[0]))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.full((3, 8, 8), float(number)) + torch.arange(8.0) for number in range(6))


def test_a_stream_has_no_ids_and_its_scale_is_guessed_aloud() -> None:
    preview = DataLoader(Stream(), 4).preview(5)
    assert [(row.id, row.batch) for row in preview.rows] == [(None, 0)] * 4 + [(None, 1)]
    assert preview.rows[0].pixels[0, :, 0].tolist() == [0, 36, 73, 109, 146, 182, 219, 255]
    assert "the scale of the values is not known" in preview.notes[-1]


def test_a_broken_image_is_shown_as_its_substitute(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    dataset = ImageFolder(str(folder), TRAIN)
    Path(dataset.samples[2][0]).write_bytes(b"no JPEG")
    loader = DataLoader(dataset, 4, seed=1, on_error="replace", quarantine=False)
    rows = loader.preview(4).rows
    assert np.array_equal(np.stack([row.pixels for row in rows]), levels(next(iter(loader))[0]))
    assert rows[2].operations[0].name == "replaced"
    assert dataset.targets[rows[2].operations[0].settings["substitute"]] == dataset.targets[2]


def _small(one_a_class: Path, epochs: tuple[int, ...] = (0, 1)) -> Preview:
    return _hot(one_a_class).preview(3, epochs=epochs)


def test_the_sheet_holds_the_originals_and_every_draw(one_a_class: Path) -> None:
    preview = _small(one_a_class)
    sheet = np.asarray(preview.image)

    def shows(pixels: np.ndarray) -> bool:
        """Whether the sheet has these pixels, enlarged a whole number of times."""
        windows = np.lib.stride_tricks.sliding_window_view(sheet, pixels.shape)[:, :, 0]
        corner = (sheet[: windows.shape[0], : windows.shape[1]] == pixels[0, 0]).all(axis=2)
        return any(np.array_equal(windows[y, x], pixels) for y, x in np.argwhere(corner))

    for row in preview.rows:
        assert row.pixels.shape == (43, 43, 3)  # ColOut leaves 43 of 48; 5 times that is at most 256
        assert shows(row.pixels.repeat(5, 0).repeat(5, 1))
    small = next(one for one in preview.originals.values() if 2 * max(one.shape) > 215 >= max(one.shape))
    assert shows(small)


def test_it_is_saved_by_suffix_and_shown_by_a_notebook(one_a_class: Path, tmp_path: Path) -> None:
    preview = _small(one_a_class)
    for suffix in (".jpg", ".png"):
        preview.save(tmp_path / f"sheet{suffix}")
        with Image.open(tmp_path / f"sheet{suffix}") as sheet:
            assert sheet.size == preview.image.size
    assert Image.open(io.BytesIO(preview._repr_png_())).size == preview.image.size
    preview.save(tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and preview._repr_html_() in page
    assert page.count("<img ") == 6 and f"&#10;{preview.rows[0].operations[0]}" in page
    with pytest.raises(ArgumentError, match=r"must end in .jpg, .png"):
        preview.save(tmp_path / "sheet.doc")
    with pytest.raises(ArgumentError, match="is no folder"):
        preview.save(tmp_path / "missing" / "sheet.png")


def test_wrong_numbers_are_refused(one_a_class: Path) -> None:
    loader = _hot(one_a_class)
    with pytest.raises(ArgumentError, match=r"images must be an int >= 1. Found: 0"):
        loader.preview(0)
    for wrong in ((), (-1,), (0.5,)):
        with pytest.raises(ArgumentError, match="epochs must be numbers from 0"):
            loader.preview(2, epochs=wrong)


def test_labels_that_are_no_images_are_not_shown_as_such() -> None:
    class Numbers(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return torch.zeros(5), index

    with pytest.raises(ArgumentError, match=r"Found: a list of a tensor \[2, 5\], a tensor \[2\]"):
        DataLoader(Numbers(), 2).preview()
