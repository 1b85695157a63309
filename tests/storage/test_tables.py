"""Parquet files and Hugging Face data sets: the batches of the folder with the same files.

The name of this file marks its tests as the part `tables`: they need the packages pyarrow and datasets.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import ArgumentError, DataError, DataLoader, EmptyDatasetError, from_csv, from_hugging_face

pyarrow = pytest.importorskip("pyarrow", reason="tables: pyarrow is not installed")
datasets = pytest.importorskip("datasets", reason="tables: datasets is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(24), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)


@pytest.fixture
def folder(photos: Path) -> Path:
    return photos


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets.disable_progress_bars()


def batches(dataset: Any, **options: Any) -> list[Any]:
    settings = {"backend": "torchvision", "batch_size": 3, "seed": 3, "shuffle": True, **options}
    loader: Any = DataLoader(dataset, **settings)
    assert loader.explain().lifted, loader.explain().reason
    return list(loader)


def same(found: list[Any], expected: list[Any]) -> None:
    for batch, other in zip(found, expected, strict=True):
        for one, two in zip(batch, other, strict=True):
            assert one.dtype == two.dtype and torch.equal(one, two)


def hugging(folder: Path, *, as_paths: bool = False, **columns: Any) -> Any:
    """The files of the folder as a data set with bytes, or with paths, and a ClassLabel."""
    found = ImageFolder(str(folder))
    images = [
        path if as_paths else {"bytes": Path(path).read_bytes(), "path": None} for path, _ in found.samples
    ]
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=found.classes),
        **{name: feature for name, (_, feature) in columns.items()},
    }
    data = {
        "image": images,
        "label": found.targets,
        **{name: values for name, (values, _) in columns.items()},
    }
    return datasets.Dataset.from_dict(data, features=datasets.Features(features))


def write_parquet(folder: Path, **columns: Any) -> Path:
    found = ImageFolder(str(folder))
    data = {
        "path": [str(Path(path).relative_to(folder)) for path, _ in found.samples],
        "label": [found.classes[label] for _, label in found.samples],
        **columns,
    }
    parquet.write_table(pyarrow.table(data), folder / "list.parquet")
    return folder / "list.parquet"


# ---- Parquet


@pytest.mark.parametrize("workers", [0, 2])
def test_parquet_gives_the_batches_of_the_folder(folder: Path, workers: int) -> None:
    file = write_parquet(folder)
    expected = batches(ImageFolder(str(folder), TRAIN), num_workers=workers)
    same(batches(from_csv(file, transform=TRAIN), num_workers=workers), expected)
    same(list(DataLoader(str(file), 3, transform=TRAIN, seed=3, shuffle=True)), expected)


def test_parquet_keeps_numbers_and_lists(folder: Path) -> None:
    num = len(ImageFolder(str(folder)))
    hot = np.eye(num, 4).tolist()
    file = write_parquet(folder, age=[i / 3 for i in range(num)], count=range(num), hot=hot)
    assert list(from_csv(file, label="count").targets) == list(range(num))
    assert np.allclose(np.asarray(from_csv(file, label="age").targets), np.arange(num) / 3)
    assert np.stack(list(from_csv(file, label="hot").targets)).tolist() == hot


def test_bad_parquet_is_told(folder: Path) -> None:
    file = write_parquet(folder)
    with pytest.raises(ArgumentError, match=r"label must name a column .*'path', 'label'"):
        from_csv(file, label="labels")
    parquet.write_table(pyarrow.table({"path": ["a.jpg", None], "label": [1, 2]}), file)
    with pytest.raises(DataError, match="row 2"):
        from_csv(file)
    parquet.write_table(pyarrow.table([["a"], [1], [2]], names=["path", "label", "label"]), file)
    with pytest.raises(DataError, match="2 columns 'label'"):
        from_csv(file)
    parquet.write_table(pyarrow.table({"path": pyarrow.array([], pyarrow.string()), "label": []}), file)
    with pytest.raises(EmptyDatasetError, match="names no image"):
        from_csv(file)
    parquet.write_table(pyarrow.table({"path": [{"bytes": b"x", "path": None}], "label": [1]}), file)
    with pytest.raises(DataError, match="from_hugging_face"):
        from_csv(file)
    file.write_bytes(b"no Parquet")
    with pytest.raises(DataError, match="is not a Parquet file"):
        from_csv(file)
    file.unlink()
    with pytest.raises(EmptyDatasetError, match="does not exist"):
        from_csv(file)


# ---- Hugging Face


@pytest.mark.parametrize("as_paths", [False, True], ids=["bytes", "paths"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_column_gives_the_batches_of_the_folder(folder: Path, workers: int, as_paths: bool) -> None:
    dataset = from_hugging_face(hugging(folder, as_paths=as_paths), transform=TRAIN)
    assert dataset.classes == ImageFolder(str(folder)).classes
    same(batches(dataset, num_workers=workers), batches(ImageFolder(str(folder), TRAIN)))
    copy = pickle.loads(pickle.dumps(dataset))
    same(batches(copy), batches(ImageFolder(str(folder), TRAIN)))


@pytest.mark.dali
def test_dali_reads_an_image_column(folder: Path) -> None:
    pytest.importorskip("nvidia.dali")
    dataset = from_hugging_face(hugging(folder), transform=TRAIN)
    same(batches(dataset, backend="dali"), batches(ImageFolder(str(folder), TRAIN), backend="dali"))


@pytest.mark.turbo_built
def test_turbo_reads_an_image_column(folder: Path) -> None:
    dataset = from_hugging_face(hugging(folder), transform=TRAIN)
    same(batches(dataset, backend="turbo"), batches(ImageFolder(str(folder), TRAIN)))


def test_torchs_own_code_gives_the_same_samples(folder: Path) -> None:
    plain = transforms.Compose([transforms.Resize((20, 30)), transforms.ToTensor()])
    dataset, reference = from_hugging_face(hugging(folder), transform=plain), ImageFolder(str(folder), plain)
    for i in (0, 5, -1):
        assert torch.equal(dataset[i][0], reference[i % len(reference)][0])
        assert dataset[i][1] == reference.targets[i]


def test_rows_that_were_chosen_and_shuffled_are_followed(folder: Path) -> None:
    chosen = [5, 2, 4, 6, 0]
    part = hugging(folder).select(chosen)
    expected = torch.utils.data.Subset(ImageFolder(str(folder), TRAIN), chosen)
    same(batches(from_hugging_face(part, transform=TRAIN)), batches(expected))
    assert from_hugging_face(part).key(0) != from_hugging_face(hugging(folder)).key(0)


def test_the_data_sets_own_transform_is_not_used_nor_changed(folder: Path) -> None:
    made = hugging(folder)
    made.set_transform(lambda rows: pytest.fail("called"))
    same(batches(from_hugging_face(made, transform=TRAIN)), batches(ImageFolder(str(folder), TRAIN)))
    assert made.format["type"] == "custom"


def test_labels_of_all_columns(folder: Path) -> None:
    num = len(ImageFolder(str(folder)))
    several = datasets.Sequence(datasets.ClassLabel(names=["x", "y", "z"]))
    made = hugging(
        folder,
        tags=([[i % 3, 2] if i % 3 < 2 else [2] for i in range(num)], several),
        age=([i / 4 for i in range(num)], datasets.Value("float32")),
        name=([f"n{i % 4}" for i in range(num)], datasets.Value("string")),
        number=(list(range(num)), datasets.Value("int64")),
    )
    tags = from_hugging_face(made, label="tags")
    assert (
        tags.classes == ["x", "y", "z"]
        and tags[1][1].tolist() == [0, 1, 1]
        and tags[2][1].tolist() == [0, 0, 1]
    )
    for row, said in (([-1], r"row 2: \[-1\]"), (None, "row 2: None")):
        wrong = hugging(folder, tags=([[0], row, *[[1]] * (num - 2)], several))
        with pytest.raises(DataError, match=said):
            from_hugging_face(wrong, label="tags")
    assert from_hugging_face(made, label="age")[3][1] == np.float32(0.75)
    assert from_hugging_face(made, label="name").classes == ["n0", "n1", "n2", "n3"]
    assert from_hugging_face(made, label="number")[5][1] == 5
    assert from_hugging_face(made, label={"a": "age", "n": "number"})[4][1] == {"a": 1.0, "n": 4}
    assert from_hugging_face(made, label=["number", "age"])[4][1].tolist() == [4.0, 1.0]
    assert {len(batch) for batch in batches(from_hugging_face(made, label=None, transform=TRAIN))} == {1}


def test_a_broken_image_is_mended_and_listed(folder: Path) -> None:
    made = hugging(folder)
    rows = made.cast_column("image", datasets.Image(decode=False))[:]
    rows["image"][4] = {"bytes": rows["image"][4]["bytes"][:60], "path": None}
    rows["image"][5] = None
    broken = from_hugging_face(datasets.Dataset.from_dict(rows, features=made.features), transform=TRAIN)
    with pytest.raises(fastpipe.SampleError, match=r"datasets-.*#[45]'"):
        batches(broken)
    found = batches(broken, on_error="skip")
    assert sum(len(images) for images, _ in found) == len(broken) - 2
    same(batches(broken, on_error="skip"), found)


def test_what_is_no_split_with_images_is_refused(folder: Path) -> None:
    made = hugging(folder, text=(["t"] * len(ImageFolder(str(folder))), datasets.Value("string")))
    with pytest.raises(ArgumentError, match=r"must be one split.*'train', 'test'"):
        from_hugging_face(datasets.DatasetDict({"train": made, "test": made}))
    with pytest.raises(ArgumentError, match=r"must be a datasets\.Dataset.*IterableDataset"):
        from_hugging_face(made.to_iterable_dataset())
    with pytest.raises(ArgumentError, match=r"must name a column of type Image.*'text': Value"):
        from_hugging_face(made, image="text")
    with pytest.raises(ArgumentError, match="be None where there is one"):
        from_hugging_face(hugging(folder, more=(made["image"][:], datasets.Image())))
    with pytest.raises(
        ArgumentError, match=r"label must name a column of 'the data set'.*'image', 'label', 'text'"
    ):
        from_hugging_face(made, label="labels")
    labels = datasets.Dataset.from_dict({**made[:], "label": [0, None, *made["label"][2:]]}, made.features)
    with pytest.raises(DataError, match="no label in row 2"):
        from_hugging_face(labels)
    with pytest.raises(EmptyDatasetError, match="at least one image"):
        from_hugging_face(made.select([]))
    with pytest.raises(ArgumentError, match="Found: list"):
        from_hugging_face([made])


def test_without_pyarrow_parquet_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_parquet(folder)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(fastpipe.MissingExtraError, match="pip install pyarrow"):
        from_csv(file)
