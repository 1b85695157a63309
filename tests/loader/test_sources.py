"""Lists of files, CSV, JSON lines: the same batches as the folder with the same files, and every contract."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import DataLoader, ImageList, augment, from_csv
from fastpipe.batch.quarantine import default_quarantine

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(24), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
Rows = list[tuple[str, str]]


def rows_of(folder: Path) -> Rows:
    """(path relative to the folder above, class) in ImageFolder's order."""
    found = ImageFolder(str(folder))
    above = folder.parent
    return [(str(Path(path).relative_to(above)), found.classes[label]) for path, label in found.samples]


def as_list(folder: Path, rows: Rows) -> Any:
    return ImageList([folder.parent / path for path, _ in rows], [label for _, label in rows], TRAIN)


def as_csv(folder: Path, rows: Rows) -> Any:
    file = folder.parent / "photos.csv"
    with open(file, "w", newline="") as handle:
        csv.writer(handle).writerows([("path", "label"), *rows])
    return from_csv(file, transform=TRAIN)


def as_json_lines(folder: Path, rows: Rows) -> Any:
    file = folder.parent / "photos.jsonl"
    lines = [json.dumps({"file": path, "class": label}) for path, label in rows]
    file.write_text("\n".join(lines))
    return from_csv(file, path="file", label="class", transform=TRAIN)


Make = Callable[[Path, Rows], Any]
SOURCES = [as_list, as_csv, as_json_lines]


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """A copy of the photos that a test may damage."""
    import shutil

    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path / "photos"


def batches(dataset: Any, **options: Any) -> list[Any]:
    settings = {"backend": "torchvision", "batch_size": 5, "seed": 3, "shuffle": True, **options}
    loader: Any = DataLoader(dataset, **settings)
    if settings["backend"] != "torch":
        assert loader.explain().lifted, loader.explain().reason
    return list(loader)


def same(found: list[Any], expected: list[Any]) -> None:
    for batch, other in zip(found, expected, strict=True):
        assert len(batch) == len(other)
        for one, two in zip(batch, other, strict=True):
            assert one.dtype == two.dtype and torch.equal(one, two)


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_are_those_of_the_folder(folder: Path, make: Make, workers: int) -> None:
    dataset = make(folder, rows_of(folder))
    assert dataset.classes == ImageFolder(str(folder)).classes
    assert list(dataset.targets) == ImageFolder(str(folder)).targets
    same(batches(dataset, num_workers=workers), batches(ImageFolder(str(folder), TRAIN)))


@pytest.mark.parametrize("make", SOURCES)
def test_torchs_own_code_gives_the_same_samples(folder: Path, make: Make) -> None:
    plain = transforms.Compose([transforms.Resize((20, 30)), transforms.ToTensor()])
    dataset, reference = make(folder, rows_of(folder)), ImageFolder(str(folder), plain)
    dataset.transform = plain
    same(batches(dataset, backend="torch"), batches(reference, backend="torch"))
    image, label = dataset[-1]
    assert torch.equal(image, reference[len(reference) - 1][0]) and label == reference.targets[-1]


@pytest.mark.dali
@pytest.mark.parametrize("make", SOURCES)
def test_dali_gives_the_batches_of_the_folder(folder: Path, make: Make) -> None:
    pytest.importorskip("nvidia.dali")
    expected = batches(ImageFolder(str(folder), TRAIN), backend="dali")
    same(batches(make(folder, rows_of(folder)), backend="dali"), expected)


@pytest.mark.turbo_built
@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("workers", [0, 2])
def test_turbo_gives_the_batches_of_the_folder(folder: Path, make: Make, workers: int) -> None:
    dataset = make(folder, rows_of(folder))
    expected = batches(ImageFolder(str(folder), TRAIN))
    same(batches(dataset, backend="turbo", num_workers=workers), expected)
    chosen = [7, 3, -1, 7]
    joined: Any = ConcatDataset([Subset(dataset, chosen), ImageFolder(str(folder), TRAIN)])
    parts: Any = ConcatDataset(
        [Subset(ImageFolder(str(folder), TRAIN), chosen), ImageFolder(str(folder), TRAIN)]
    )
    same(batches(joined, backend="turbo", num_workers=workers), batches(parts))


def test_a_path_to_a_csv_is_a_data_set(folder: Path) -> None:
    as_csv(folder, rows_of(folder))
    loader = DataLoader(str(folder.parent / "photos.csv"), 5, transform=TRAIN, seed=3, shuffle=True)
    same(list(loader), batches(ImageFolder(str(folder), TRAIN)))
    assert loader.explain().reason == "a list of images with a torchvision pipeline"


@pytest.mark.parametrize("make", SOURCES)
def test_a_resumed_epoch_goes_on_with_the_next_sample(folder: Path, make: Make) -> None:
    def loader() -> Any:
        return DataLoader(make(folder, rows_of(folder)), 5, shuffle=True, seed=3, backend="torchvision")

    whole = list(loader())
    first = loader()
    iterator = iter(first)
    next(iterator), next(iterator)
    second = loader()
    second.load_state_dict(first.state_dict())
    same(list(second), whole[2:])


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_broken_files_are_mended_and_listed_as_in_the_folder(
    folder: Path, make: Make, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(folder)
    for place in (3, 12):
        path = folder.parent / rows[place][0]
        path.write_bytes(path.read_bytes()[:60])
    dataset = make(folder, rows)
    expected = batches(ImageFolder(str(folder), TRAIN), on_error=on_error)
    same(batches(dataset, on_error=on_error), expected)
    listed = default_quarantine(dataset)
    assert listed is not None
    names = sorted(json.loads(line)["path"] for line in listed.read_text().splitlines())
    assert names == sorted(str(folder.parent / rows[place][0]) for place in (3, 12))
    same(batches(dataset, on_error=on_error), expected)  # from the list


def test_a_missing_file_that_was_not_looked_for_is_named_in_its_turn(folder: Path) -> None:
    rows = [*rows_of(folder), ("photos/birch/none.jpg", "birch")]
    file = folder.parent / "photos.csv"
    with open(file, "w", newline="") as handle:
        csv.writer(handle).writerows([("path", "label"), *rows])
    dataset = from_csv(file, check_files=False, transform=TRAIN)
    with pytest.raises(fastpipe.SampleError, match=r"cannot read the image .*none\.jpg.*No such file"):
        batches(dataset)
    with pytest.raises(fastpipe.SampleError, match=r"none\.jpg"):
        dataset[len(dataset) - 1]


def test_lists_join_folders_and_are_cut_by_subset(folder: Path) -> None:
    files = ImageFolder(str(folder), TRAIN)
    listed = as_list(folder, rows_of(folder))
    joined: Any = ConcatDataset([files, Subset(listed, [7, 3, -1])])
    same(batches(joined), batches(ConcatDataset([files, Subset(files, [7, 3, -1])])))
    assert DataLoader(joined, 5).explain().reason.startswith("folders and lists of images with")


def test_its_own_loader_is_not_passed_over(folder: Path) -> None:
    dataset = as_list(folder, rows_of(folder))
    dataset.loader = lambda path: None
    explained = DataLoader(dataset, 5).explain()
    assert not explained.lifted and explained.reason.startswith("the loader of ImageList is the script's own")


# ---- labels


def labelled(folder: Path, labels: Any, **options: Any) -> ImageList:
    paths = [folder.parent / path for path, _ in rows_of(folder)]
    return ImageList(paths, labels, TRAIN, **options)


HOT = np.random.default_rng(2).integers(0, 2, (24, 4)).astype(np.float32)
FORMS: dict[str, Any] = {
    "vectors": HOT,
    "tensor": torch.from_numpy(HOT),
    "float64": np.linspace(0, 1, 24),
    "floats": np.linspace(0, 1, 24).tolist(),
    "float32": np.linspace(0, 1, 24, dtype=np.float32),
    "dicts": [{"age": i, "size": i / 7} for i in range(24)],
    "pairs": [(i, -i) for i in range(24)],
    "text": None,
}


BY = ["torchvision", pytest.param("turbo", marks=pytest.mark.turbo_built)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("backend", BY)
def test_labels_of_every_form_are_collated_as_torch_does(
    folder: Path, form: str, workers: int, backend: str
) -> None:
    labels = [f"text {i % 5}" for i in range(24)] if form == "text" else FORMS[form]
    dataset = labelled(folder, labels, classes=False if form == "text" else None)
    options = {"shuffle": False, "seed": None, "num_workers": workers}
    for found, expected in zip(
        batches(dataset, backend=backend, **options),
        batches(dataset, backend="torch", **options),
        strict=True,
    ):
        assert torch.utils._pytree.tree_structure(found[1]) == torch.utils._pytree.tree_structure(expected[1])
        leaves = zip(*map(torch.utils._pytree.tree_leaves, (found[1], expected[1])), strict=True)
        for one, two in leaves:
            same_type = type(one) is type(two) and getattr(one, "dtype", None) == getattr(two, "dtype", None)
            assert same_type and (torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two)


@pytest.mark.parametrize("backend", [*BY, "torch"])
def test_without_labels_a_batch_is_images_alone(folder: Path, backend: str) -> None:
    dataset = labelled(folder, None)
    found = batches(dataset, backend=backend, shuffle=False)
    assert [len(batch) for batch in found] == [1] * 5
    if backend != "torch":
        expected = batches(ImageFolder(str(folder), TRAIN), shuffle=False)
        same(found, [batch[:1] for batch in expected])


@pytest.mark.parametrize("missing", [None, float("nan"), 3])
@pytest.mark.parametrize("classes", [None, False, ["a", "b"]])
def test_a_name_that_is_missing_is_told(folder: Path, missing: Any, classes: Any) -> None:
    with pytest.raises(fastpipe.ArgumentError, match=f"must all be text where one is.*{missing}"):
        labelled(folder, [*["a", "b"] * 11, missing, "a"], classes=classes)


def test_classes_are_not_taken_for_labels_that_have_none(folder: Path) -> None:
    for labels in (np.linspace(0, 1, 24), HOT, [True] * 24):
        with pytest.raises(fastpipe.ArgumentError, match="classes must be None for labels that are neither"):
            labelled(folder, labels, classes=["a", "b"])
    assert labelled(folder, list(np.array(["b", "a"] * 12))).targets[:2] == [1, 0]


def test_images_with_and_without_labels_do_not_join(folder: Path) -> None:
    joined: Any = ConcatDataset([labelled(folder, None), labelled(folder, list(range(24)))])
    with pytest.raises(RuntimeError, match="cannot join images with and without labels"):
        batches(joined, batch_size=30)


def test_a_replacement_without_labels_is_any_other_image(folder: Path) -> None:
    dataset = labelled(folder, None)
    path = Path(dataset.samples[4][0])
    path.write_bytes(path.read_bytes()[:60])
    assert sum(len(images) for (images,) in batches(dataset, on_error="replace")) == 24


def test_a_number_that_nobody_else_has_cannot_be_replaced(folder: Path) -> None:
    dataset = labelled(folder, np.linspace(0, 1, 24))
    path = Path(dataset.samples[4][0])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(fastpipe.SampleError, match=r"DataLoader\. No other sample has its label"):
        batches(dataset, on_error="replace")


@pytest.mark.parametrize("nested", ["dict", "list"])
def test_labels_that_hold_arrays_are_compared_by_their_elements(folder: Path, nested: str) -> None:
    """The broken one has the label of every second image."""
    arrays = [np.full(2, place % 2) for place in range(24)]
    labels = [{"box": one, "n": 1} if nested == "dict" else [one, np.zeros(3)] for one in arrays]
    dataset = labelled(folder, labels)
    path = Path(dataset.samples[4][0])
    path.write_bytes(path.read_bytes()[:60])
    loader: Any = fastpipe.DataLoader(dataset, 24, seed=1, on_error="replace", quarantine=False)
    assert len(next(iter(loader))[0]) == 24
    (incident,) = loader.incidents()
    assert incident.action == "replaced" and incident.substitute % 2 == 0


# ---- MixUp and CutMix


@pytest.mark.parametrize("spec", [augment.MixUp(0.4), augment.CutMix(1.0)], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("form", ["vectors", "float64", "float32"])
def test_float_labels_are_mixed_in_their_own_form(folder: Path, spec: Any, form: str) -> None:
    dataset = labelled(folder, FORMS[form])
    loader: Any = DataLoader(dataset, 8, seed=3, augment=[spec], backend="torchvision")
    for number, batch in enumerate(loader):
        own = torch.as_tensor(FORMS[form][8 * number : 8 * number + 8])
        assert torch.equal(batch.hard_labels, own) and batch[1].dtype == own.dtype
        share = float(np.float32(batch.weight))
        mixed = own * (1 - share) + own[batch.partner] * share
        assert torch.allclose(batch[1], mixed, rtol=0, atol=1e-6)
        assert not torch.equal(batch[1], own)
    assert "in their own form, mixed" in str(loader.explain())


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([{"age": i} for i in range(24)], "dict with 'age'"),
        (np.zeros((24, 3), np.int64), r"torch.int64 \[5, 3\]"),
        (None, "no labels"),
        ([(1, "a")] * 24, "Found: (list|tuple)"),
    ],
    ids=["dict", "integers", "none", "pairs"],
)
def test_labels_that_cannot_be_mixed_are_named(folder: Path, labels: Any, found: str) -> None:
    dataset = labelled(folder, labels)
    with pytest.raises(fastpipe.DataError, match=f"MixUp and CutMix need labels .*{found}"):
        batches(dataset, augment=[augment.MixUp(0.4)])


def test_text_cannot_be_mixed(folder: Path) -> None:
    dataset = labelled(folder, ["a", "b"] * 12, classes=False)
    with pytest.raises(fastpipe.DataError, match="Found: text"):
        batches(dataset, augment=[augment.MixUp(0.4)])


def test_class_numbers_without_names_ask_for_their_number(folder: Path) -> None:
    dataset = labelled(folder, list(range(24)))
    with pytest.raises(fastpipe.ArgumentError, match="num_classes must be given"):
        batches(dataset, augment=[augment.MixUp(0.4)])
    _, labels = batches(dataset, augment=[augment.MixUp(0.4)], num_classes=24)[0]
    assert labels.shape == (5, 24) and torch.allclose(labels.sum(1), torch.ones(5))
