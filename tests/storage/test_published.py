"""torchvision's own classification data sets: `__getitem__` is the reference, and no download is made.

Each is made without its constructor, with the attributes that the installed torchvision's constructor sets.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms
from torchvision.datasets.folder import default_loader
from torchvision.datasets.vision import StandardTransform
from torchvision.transforms import v2

from fastpipe import DataLoader, augment
from fastpipe.batch.at_once import batch_at_once
from fastpipe.storage import leaf_of

NUM = 12
PLAIN = transforms.Compose([transforms.Resize((18, 22)), transforms.ToTensor()])
RGB = transforms.Compose([v2.RGB(), transforms.Resize((18, 22)), transforms.ToTensor()])
GREY = transforms.Compose([transforms.Grayscale(3), transforms.Resize((18, 22)), transforms.ToTensor()])


def bare(name: str, transform: Any = PLAIN, target_transform: Any = None, **attributes: Any) -> Any:
    """An instance with these attributes and those of VisionDataset."""
    made = object.__new__(getattr(datasets, name))
    made.transform, made.target_transform = transform, target_transform
    made.transforms = StandardTransform(transform, target_transform)
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """RGB and grey JPEGs, and a PNG with a palette."""
    root = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(4)
    found = []
    for number in range(NUM):
        image = Image.fromarray(rng.integers(0, 255, (20 + number, 30, 3), np.uint8))
        if number % 4 == 1:
            image = image.convert("L")
        path = root / (f"{number}.png" if number % 4 == 2 else f"{number}.jpg")
        (image.convert("P") if number % 4 == 2 else image).save(path)
        found.append(path)
    return found


LABELS = [number % 3 for number in range(NUM)]
Made = Callable[[list[Path], Any], Any]
OF_FILES: dict[str, Made] = {
    **{
        name: lambda files, t, name=name: bare(
            name, t, _samples=list(zip(map(str, files), LABELS, strict=True)), loader=default_loader
        )
        for name in ("StanfordCars", "GTSRB", "RenderedSST2", "Imagenette")
    },
    **{
        name: lambda files, t, name=name: bare(
            name, t, _image_files=files, _labels=LABELS, loader=default_loader
        )
        for name in ("Flowers102", "Food101", "DTD", "SUN397", "FGVCAircraft", "CLEVRClassification")
    },
    "OxfordIIITPet": lambda files, t: bare(
        "OxfordIIITPet", t, _images=files, _labels=LABELS, _target_types=["category"]
    ),
    "OxfordIIITPet, cats and dogs": lambda files, t: bare(
        "OxfordIIITPet", t, _images=files, _bin_labels=LABELS, _target_types=["binary-category"]
    ),
    "Places365": lambda files, t: bare(
        "Places365", t, imgs=list(zip(map(str, files), LABELS, strict=True)), loader=default_loader
    ),
}


def caltech(root: Path, name: str, transform: Any) -> Any:
    """Its files have fixed names below ROOT."""
    rng = np.random.default_rng(4)
    folder, pattern = {
        "Caltech101": ("101_ObjectCategories", "image_{number:04d}.jpg"),
        "Caltech256": ("256_ObjectCategories", "{label:03d}_{number:04d}.jpg"),
    }[name]
    categories, y, index = ["ant", "bee"], [0] * 6 + [1] * 6, [1, 2, 3, 4, 5, 6] * 2
    for label, number in zip(y, index, strict=True):
        path = root / folder / categories[label] / pattern.format(number=number, label=label + 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 255, (20 + number, 30, 3), np.uint8))
        (image.convert("L") if number == 2 else image).save(path)
    return bare(
        name, transform, root=str(root), categories=categories, y=y, index=index, target_type=["category"]
    )


SMALL = np.random.default_rng(1).integers(0, 255, (NUM, 14, 16, 3), np.uint8)
IN_MEMORY: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    **{
        name: (PLAIN, lambda t, name=name: bare(name, t, data=SMALL, targets=list(LABELS)))
        for name in ("CIFAR10", "CIFAR100")
    },
    **{
        name: (
            PLAIN,
            lambda t, name=name: bare(name, t, data=SMALL.transpose(0, 3, 1, 2), labels=np.array(LABELS)),
        )
        for name in ("SVHN", "STL10")
    },
    **{
        name: (
            GREY,
            lambda t, name=name: bare(
                name, t, data=torch.from_numpy(SMALL[..., 0].copy()), targets=torch.tensor(LABELS)
            ),
        )
        for name in ("MNIST", "FashionMNIST", "KMNIST", "EMNIST")
    },
    "USPS": (GREY, lambda t: bare("USPS", t, data=SMALL[..., 0], targets=list(LABELS))),
    "SEMEION": (GREY, lambda t: bare("SEMEION", t, data=SMALL[..., 0], labels=np.array(LABELS))),
}


def check(dataset: Any, *, backend: str = "torchvision", **options: Any) -> None:
    """The lifted batches are those that torch's DataLoader makes of `__getitem__`."""
    loader: Any = DataLoader(dataset, 5, backend=backend, **options)
    assert loader.explain().lifted, loader.explain().reason
    expected = torch.utils.data.DataLoader(dataset, 5)
    for (images, labels), (others, their_labels) in zip(loader, expected, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, their_labels) and labels.dtype == their_labels.dtype


@pytest.mark.parametrize("name", OF_FILES)
def test_lists_of_files_give_torchvisions_samples(files: list[Path], name: str) -> None:
    dataset = OF_FILES[name](files, PLAIN)
    check(dataset)
    leaf = leaf_of(dataset)
    assert (
        leaf is not None and leaf.key(3) == str(files[3]) and leaf.labels(np.array([4, 0])).tolist() == [1, 0]
    )


@pytest.mark.turbo_built
@pytest.mark.parametrize("name", [*OF_FILES, *IN_MEMORY])
def test_turbo_gives_torchvisions_samples(files: list[Path], name: str) -> None:
    made = OF_FILES[name](files, PLAIN) if name in OF_FILES else IN_MEMORY[name][1](IN_MEMORY[name][0])
    check(made, backend="turbo")


@pytest.mark.dali
@pytest.mark.parametrize("name", ["GTSRB", "Flowers102", "OxfordIIITPet", "CIFAR10", "MNIST"])
def test_dali_gives_torchvisions_samples(files: list[Path], name: str) -> None:
    pytest.importorskip("nvidia.dali")
    made = OF_FILES[name](files, PLAIN) if name in OF_FILES else IN_MEMORY[name][1](IN_MEMORY[name][0])
    ours: Any = DataLoader(made, 5, backend="dali")
    for (images, labels), (others, their_labels) in zip(
        ours, torch.utils.data.DataLoader(made, 5), strict=True
    ):
        assert torch.equal(images, others) and torch.equal(labels, their_labels)


@pytest.mark.parametrize("name", ["Caltech101", "Caltech256"])
def test_caltechs_grey_images_need_a_step_that_makes_them_rgb(tmp_path: Path, name: str) -> None:
    check(caltech(tmp_path, name, RGB))
    explained = DataLoader(caltech(tmp_path, name, PLAIN), 5).explain()
    assert not explained.lifted and f"{name} does not convert its images to RGB" in explained.reason


@pytest.mark.parametrize("name", IN_MEMORY)
def test_arrays_give_torchvisions_samples(name: str) -> None:
    transform, made = IN_MEMORY[name]
    check(made(transform))


@pytest.mark.parametrize("name", ["Flowers102", "CIFAR10", "MNIST"])
def test_workers_give_torchvisions_samples(files: list[Path], name: str) -> None:
    made = OF_FILES[name](files, PLAIN) if name in OF_FILES else IN_MEMORY[name][1](IN_MEMORY[name][0])
    check(made, num_workers=2)


BY_CROPPING = ["torchvision", pytest.param("turbo", marks=pytest.mark.turbo_built)]
USERS_OF_IT = ("fastpipe.batch.worker", "fastpipe.backends.turbo.batch")


@pytest.fixture
def cut_at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each batch was cut at once, without an image object for each."""
    seen: list[bool] = []

    def spy(*arguments: Any) -> Any:
        batch = batch_at_once(*arguments)
        seen.append(batch is not None)
        return batch

    for module in USERS_OF_IT:
        monkeypatch.setattr(f"{module}.batch_at_once", spy)
    return seen


@pytest.mark.parametrize("backend", BY_CROPPING)
@pytest.mark.parametrize("name", ["CIFAR10", "SVHN", "MNIST"])
@pytest.mark.parametrize(
    "steps",
    [
        [],
        [transforms.CenterCrop((9, 11))],
        [transforms.CenterCrop((20, 17))],
        [transforms.Pad(0)],
        [transforms.CenterCrop(10), transforms.RandomHorizontalFlip(1.0)],
    ],
    ids=["whole", "centre", "beyond", "unknown step", "flip"],
)
def test_a_batch_cut_at_once_has_torchvisions_pixels(
    name: str, steps: list[Any], backend: str, cut_at_once: list[bool]
) -> None:
    start = [transforms.Grayscale(3)] if name == "MNIST" else []
    own_step = any(isinstance(step, transforms.Pad) for step in steps)  # it runs on image objects
    made = IN_MEMORY[name][1](transforms.Compose([*start, *steps, transforms.ToTensor()]))
    check(made, backend="torchvision" if own_step else backend)
    assert own_step or (cut_at_once and all(cut_at_once))


@pytest.mark.parametrize("backend", BY_CROPPING)
@pytest.mark.parametrize("name", ["CIFAR10", "SVHN", "MNIST"])
@pytest.mark.parametrize("padding", [None, 4, (1, 2, 3, 0), 40], ids=str)
def test_a_random_crop_at_once_has_the_boxes_of_the_crop_one_by_one(
    name: str, padding: Any, backend: str, monkeypatch: pytest.MonkeyPatch, cut_at_once: list[bool]
) -> None:
    start = [transforms.Grayscale(3)] if name == "MNIST" else []
    steps = [
        transforms.RandomCrop((5, 7), padding=padding),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
    ]
    dataset = IN_MEMORY[name][1](transforms.Compose([*start, *steps]))
    options: Any = {"batch_size": 5, "shuffle": True, "seed": 7, "backend": backend}
    at_once = list(DataLoader(dataset, **options))
    assert cut_at_once and all(cut_at_once)
    for module in USERS_OF_IT:
        monkeypatch.setattr(f"{module}.batch_at_once", lambda *arguments: None)
    for (images, labels), (others, their_labels) in zip(at_once, DataLoader(dataset, **options), strict=True):
        assert torch.equal(images, others) and torch.equal(labels, their_labels)


def test_a_random_crop_by_torch_is_of_the_same_kind() -> None:
    """Every crop is a window of the padded image, and all 81 windows of 4 + 4 pixels of padding occur."""
    data = np.arange(8 * 8, dtype=np.uint8).reshape(1, 8, 8, 1).repeat(3, 3).repeat(2000, 0) + 1
    steps = transforms.Compose([transforms.RandomCrop(8, padding=4), transforms.PILToTensor()])
    dataset = bare("CIFAR10", steps, data=data, targets=[0] * len(data))
    images, _ = next(iter(DataLoader(dataset, len(data), seed=1, backend="torchvision")))
    padded = np.pad(data[0, ..., 0], 4)
    windows = {padded[t : t + 8, x : x + 8].tobytes() for t in range(9) for x in range(9)}
    assert {image[0].contiguous().numpy().tobytes() for image in images} == windows


@pytest.mark.parametrize("backend", BY_CROPPING)
def test_a_crop_that_does_not_fit_is_an_error_or_is_skipped(backend: str) -> None:
    steps = transforms.Compose([transforms.RandomCrop(40), transforms.ToTensor()])
    dataset = IN_MEMORY["CIFAR10"][1](steps)
    with pytest.raises(ValueError, match="larger than the image"):
        list(DataLoader(dataset, 5, backend=backend))
    with pytest.raises(ValueError, match=r"skipped or replaced"):
        list(DataLoader(dataset, 5, backend=backend, on_error="skip", quarantine=False))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.turbo_built
def test_turbo_decodes_no_image_in_memory(workers: int, cut_at_once: list[bool]) -> None:
    """Nothing counts as handed to Pillow, and no process is started for what costs microseconds."""
    dataset = IN_MEMORY["CIFAR10"][1](PLAIN)
    dataset.transform = transforms.Compose([transforms.CenterCrop(9), transforms.ToTensor()])
    loader: Any = DataLoader(dataset, 5, backend="turbo", num_workers=workers)
    for images, labels in loader:
        assert images.is_contiguous() and labels.dtype == torch.int64
        assert not multiprocessing.active_children()
    assert cut_at_once and all(cut_at_once)
    stats = loader.stats()
    assert (stats.images, stats.to_pillow) == (NUM, {})


@pytest.mark.parametrize("backend", BY_CROPPING)
def test_subsets_of_arrays_are_cut_at_once_too(backend: str, cut_at_once: list[bool]) -> None:
    dataset = IN_MEMORY["SVHN"][1](PLAIN)
    part: Any = torch.utils.data.Subset(torch.utils.data.Subset(dataset, [7, 3, -1, 0, 5]), [4, 2, -4])
    dataset.transform = transforms.Compose([transforms.CenterCrop(9), transforms.ToTensor()])
    check(part, backend=backend)
    assert cut_at_once and all(cut_at_once)


@pytest.mark.parametrize("kind", [int, bool, np.float32, np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("steps", [[], [transforms.Resize((9, 11))]], ids=["at once", "one by one"])
def test_labels_that_a_script_puts_into_cifar_keep_their_type(kind: Any, steps: list[Any]) -> None:
    dataset = IN_MEMORY["CIFAR10"][1](transforms.Compose([*steps, transforms.ToTensor()]))
    dataset.targets = [kind(number % 3) for number in range(NUM)]
    check(dataset)


def test_a_target_transform_of_cifar_is_kept() -> None:
    dataset = IN_MEMORY["CIFAR10"][1](PLAIN)
    dataset.target_transform = str
    loader: Any = DataLoader(dataset, 5, backend="torchvision")
    assert next(iter(loader))[1] == tuple(str(label) for label in dataset.targets[:5])


def test_class_names_give_mixup_its_width(files: list[Path]) -> None:
    dataset = OF_FILES["Flowers102"](files, PLAIN)
    dataset.classes = ["a", "b", "c"]
    _, labels = next(iter(DataLoader(dataset, 5, augment=[augment.MixUp(0.3)], backend="torchvision")))
    assert labels.shape == (5, 3)


PAIRS = transforms.Compose([transforms.Resize((18, 22)), transforms.ToTensor()])
REFUSED: dict[str, tuple[Callable[[list[Path]], Any], str]] = {
    "grey": (lambda files: IN_MEMORY["MNIST"][1](PLAIN), "MNIST have one channel.*Grayscale\\(3\\)"),
    "grey to one channel": (
        lambda files: IN_MEMORY["USPS"][1](transforms.Compose([transforms.Grayscale(1), PLAIN])),
        "USPS have one channel",
    ),
    "masks": (
        lambda files: bare("OxfordIIITPet", _images=files, _target_types=["segmentation"]),
        "segmentation",
    ),
    "several targets": (
        lambda files: bare("OxfordIIITPet", _images=files, _target_types=["category", "binary-category"]),
        "is not one class label",
    ),
    "joint transforms": (
        lambda files: bare("Places365", imgs=[], transforms=lambda image, target: (image, target)),
        "was not made with transform= alone",
    ),
    "no labels": (lambda files: bare("STL10", data=SMALL, labels=None), "STL10 has no labels"),
    "no labels in files": (
        lambda files: bare("CLEVRClassification", _image_files=files, _labels=[None] * NUM),
        "has no labels",
    ),
    "another dtype": (
        lambda files: bare("CIFAR10", data=SMALL.astype(np.float32), targets=LABELS),
        r"float32 \[12, 14, 16, 3\], not uint8 \[N, H, W, C\]",
    ),
    "four channels": (
        lambda files: bare("CIFAR10", data=np.zeros((2, 4, 4, 4), np.uint8), targets=LABELS),
        r"uint8 \[2, 4, 4, 4\], not uint8",
    ),
    "QMNIST": (
        lambda files: bare("QMNIST", GREY, data=None, targets=None),
        "QMNIST has a __getitem__ of its own",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torchvision_gives_otherwise_is_left_to_torch(files: list[Path], case: str) -> None:
    make, reason = REFUSED[case]
    explained = DataLoader(make(files), 5).explain()
    assert not explained.lifted
    assert __import__("re").search(reason, explained.reason), explained.reason


def _turned(file: str) -> Image.Image:
    return Image.open(file).convert("RGB").rotate(90)


def test_a_loader_of_the_scripts_is_called(files: list[Path]) -> None:
    turned = bare("Food101", _image_files=files, _labels=LABELS, loader=_turned)
    check(turned)
    assert "lifted by proof" in DataLoader(turned, 5).explain().reason


def test_the_transform_is_read_where_torchvision_reads_it(files: list[Path]) -> None:
    """OxfordIIITPet calls what it was made with; setting `transform` afterwards changes nothing there."""
    dataset = OF_FILES["OxfordIIITPet"](files, PLAIN)
    dataset.transform = transforms.Compose([transforms.Resize((5, 5)), transforms.ToTensor()])
    check(dataset)
    assert next(iter(DataLoader(dataset, 2, backend="torchvision")))[0].shape == (2, 3, 18, 22)


def test_the_scripts_transform_is_not_changed() -> None:
    grey = transforms.Compose([transforms.Compose([transforms.Grayscale(3)]), transforms.ToTensor()])
    dataset = IN_MEMORY["MNIST"][1](grey)
    before = repr(grey)
    explained = DataLoader(dataset, 5).explain()
    assert explained.lifted and repr(dataset.transform) == before and dataset.transform is grey
    assert explained.steps[0].step == "RGB()"


def test_euro_sat_is_a_folder(photos: Path) -> None:
    made = object.__new__(datasets.EuroSAT)
    datasets.ImageFolder.__init__(made, str(photos), PLAIN)
    check(made)
