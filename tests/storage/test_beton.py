"""Reading `.beton`: what stock FFCV lays out, value by value, and every damage refused by name."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torchvision import transforms

from fastpipe import DataError, DataLoader, EmptyDatasetError, FolderDataset, SampleError
from fastpipe.storage import Beton, BetonDataset

ROWS, ROW = 24 + 4 * 1041, 48
TABLE = 3 << 21


def test_arrays_hold_what_the_file_says(stock_beton: Any) -> None:
    beton = Beton(stock_beton.path)
    assert beton.heights.tolist() == [20, 21, 22, 23, 24, 25] and beton.widths.tolist() == [
        30,
        29,
        28,
        27,
        26,
        25,
    ]
    assert beton.modes.tolist() == [0, 1, 0, 1, 0, 1] and beton.labels.tolist() == stock_beton.labels
    assert [bytes(beton.encoded(i)) for i in range(6)] == stock_beton.payloads
    assert beton.lengths.tolist() == [len(payload) for payload in stock_beton.payloads]
    assert (beton.heights.dtype, beton.modes.dtype, beton.pointers.dtype, beton.labels.dtype) == (
        np.uint16, np.uint8, np.uint64, np.int64,
    )  # fmt: skip
    assert beton.classes == ("0", "1", "2") and beton.names[5] == f"{stock_beton.path}#5"
    assert not beton.data().flags.writeable and beton.checksums is None
    with pytest.raises(IndexError, match="sample 6 of 6"):
        beton.encoded(6)


def test_dataset_has_the_face_of_a_folder(stock_beton: Any) -> None:
    dataset = BetonDataset(stock_beton.path, np.asarray, lambda label: -label)
    for i, (image, label) in enumerate(dataset[i] for i in range(6)):
        assert np.array_equal(image, stock_beton.images[i]) and label == -stock_beton.labels[i]
    assert dataset[-1][1] == dataset[5][1] and dataset.rgb(3).mode == "RGB"
    assert dataset.samples[1] == (f"{stock_beton.path}#1", 0) and len(dataset.samples) == 6
    assert list(dataset.targets) == stock_beton.labels == np.asarray(dataset.targets).tolist()
    assert dataset.class_to_idx == {"0": 0, "1": 1, "2": 2}
    with pytest.raises(IndexError):
        dataset[6]


PIPELINE = transforms.Compose(
    [transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_reads_it_as_it_reads_the_same_images_from_a_folder(
    stock_beton: Any, tmp_path: Path, workers: int
) -> None:
    for i, image in enumerate(stock_beton.images):
        folder = tmp_path / "folder" / str(stock_beton.labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    folder_data = FolderDataset(tmp_path / "folder", PIPELINE)
    same_order = [int(Path(path).stem) for path, _ in folder_data.samples]
    subset = Subset(BetonDataset(stock_beton.path, PIPELINE), same_order)
    settings: dict[str, Any] = dict(batch_size=4, shuffle=True, seed=5, num_workers=workers, device="cpu")
    expected = list(DataLoader(folder_data, **settings))
    loader = DataLoader(subset, **settings, backend="torchvision")
    for (images, labels), (their_images, their_labels) in zip(loader, expected, strict=True):
        assert torch.equal(images, their_images) and torch.equal(labels, their_labels)
    joined = ConcatDataset([folder_data, BetonDataset(stock_beton.path, PIPELINE)])
    assert sum(len(labels) for _, labels in DataLoader(joined, **settings)) == 12
    assert ".beton file" in str(loader.explain())


def test_a_path_opens_it(stock_beton: Any) -> None:
    loader = DataLoader(str(stock_beton.path), transform=PIPELINE, batch_size=6, num_workers=0, device="cpu")
    (images, labels) = next(iter(loader))
    assert images.shape == (6, 3, 16, 16) and labels.tolist() == stock_beton.labels


def test_pickled_it_maps_the_file_anew_and_refuses_another_one(stock_beton: Any) -> None:
    beton = Beton(stock_beton.path)
    beton.data()
    stored = pickle.dumps(beton)
    assert len(stored) < 10_000
    assert bytes(pickle.loads(stored).encoded(1)) == stock_beton.payloads[1]
    os.truncate(stock_beton.path, 1000)
    with pytest.raises(DataError, match="has changed since it was opened"):
        pickle.loads(stored).encoded(1)


def patch(path: Path, at: int, layout: str, *values: Any) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(struct.pack(layout, *values))


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (0, "<H", 3, "format version 3 is not 2"),
        (2, "<H", 0, "0 fields"),
        (2, "<H", 65535, "65535 fields"),
        (4, "<I", 3 << 20, "not a power of two"),
        (8, "<Q", 1 << 60, "rows of 1152921504606846976 samples end"),
        (8, "<Q", 7, "sample 6: its image"),
        (16, "<Q", 0, "writer was stopped before"),
        (16, "<Q", 100, "allocation table starts at 100"),
        (16, "<Q", (1 << 64) - 24, "allocation table starts"),
        (16, "<Q", TABLE + 1, "not a multiple of 24"),
        (16, "<Q", TABLE + 24 * 12, "allocation table is empty"),
        (24, "<B", 255, "'blob' is of the custom type 255"),
        (24 + 1041, "<B", 3, "one RGBImage field is needed"),
        (ROWS + 16, "<B", 2, "sample 0: its image is neither JPEG"),
        (ROWS + ROW + 17, "<H", 0, "sample 1: its image has no pixels"),
        (ROWS + ROW + 17, "<H", 65535, "sample 1: the length of its raw image is not"),
        (ROWS + ROW + 21, "<Q", 5, "sample 1: its image has no entry"),
        (TABLE + 24, "<Q", 4, "sample 1: its image belongs to another sample"),
        (TABLE + 24 + 16, "<Q", 1 << 40, "sample 1: its image reaches beyond"),
        (TABLE + 24 + 16, "<Q", (1 << 64) - 1, "sample 1: its image reaches beyond"),
        (TABLE + 3 * 24 + 16, "<Q", 2, "sample 0: its JPEG image has fewer than 4 bytes"),
    ],
)
def test_a_damaged_table_is_named(stock_beton: Any, at: int, layout: str, value: int, message: str) -> None:
    patch(stock_beton.path, at, layout, value)
    with pytest.raises(DataError, match=message) as caught:
        Beton(stock_beton.path)
    assert str(stock_beton.path) in str(caught.value)


def test_an_address_within_the_tables_or_past_the_samples_is_refused(stock_beton: Any) -> None:
    patch(stock_beton.path, ROWS + ROW + 21, "<Q", 24)
    patch(stock_beton.path, TABLE + 24 + 8, "<Q", 24)
    with pytest.raises(DataError, match="sample 1: its image is within the tables"):
        Beton(stock_beton.path)
    patch(stock_beton.path, ROWS + ROW + 21, "<Q", TABLE + 8)
    patch(stock_beton.path, TABLE + 24 + 8, "<Q", TABLE + 8)
    with pytest.raises(DataError, match="sample 1: its image is beyond the samples"):
        Beton(stock_beton.path)


@pytest.mark.parametrize("size", [0, 10, 23, 24, 1000, 24 + 4 * 1041, ROWS + 5 * ROW, TABLE - 1, TABLE + 5])
def test_a_cut_off_file_is_refused(stock_beton: Any, size: int) -> None:
    os.truncate(stock_beton.path, size)
    with pytest.raises(DataError):
        Beton(stock_beton.path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="no such file"):
        Beton(tmp_path / "x.beton")
    os.mkfifo(tmp_path / "pipe.beton")
    with pytest.raises(DataError, match="not a file"):
        Beton(tmp_path / "pipe.beton")
    (tmp_path / "text.beton").write_text("not a beton file, but a text of some length")
    with pytest.raises(DataError, match="format version"):
        Beton(tmp_path / "text.beton")


def test_one_of_two_image_fields_is_chosen_by_name(stock_beton: Any) -> None:
    patch(stock_beton.path, 24 + 1041 * 2, "<B16s", 2, b"second" + bytes(10))
    with pytest.raises(DataError, match="one Int field is needed"):
        Beton(stock_beton.path)
    patch(stock_beton.path, 24 + 1041 * 2, "<B16s", 1, b"second" + bytes(10))
    patch(stock_beton.path, 24 + 1041 * 3, "<B16s", 1, b"third" + bytes(11))
    with pytest.raises(DataError, match=r"label_field=NAME.*'second' \(Int\), 'third' \(Int\)"):
        Beton(stock_beton.path)
    assert Beton(stock_beton.path, label_field="second").labels.tolist() == stock_beton.labels
    with pytest.raises(DataError, match=r"give the loader .*BetonDataset\(PATH, label_field=NAME\)"):
        BetonDataset(stock_beton.path)
    chosen = BetonDataset(stock_beton.path, label_field="second")
    assert list(chosen.targets) == stock_beton.labels and chosen[0][1] == stock_beton.labels[0]


@pytest.mark.parametrize(
    ("at", "layout", "value"), [(0, "<Q", 0), (TABLE + 3 * 24 + 16, "<Q", 400)], ids=["bytes", "cut"]
)
def test_a_broken_jpeg_is_a_sample_error(stock_beton: Any, at: int, layout: str, value: int) -> None:
    start = int(Beton(stock_beton.path).pointers[0])
    patch(stock_beton.path, start + 2 if at < TABLE else at, layout, value)
    with pytest.raises(SampleError, match=r"sample 0 of .*cannot be decoded") as caught:
        BetonDataset(stock_beton.path).rgb(0)
    assert caught.value.sample_id == 0


def test_a_jpeg_of_another_size_than_the_table_says_is_refused(stock_beton: Any) -> None:
    patch(stock_beton.path, ROWS + 17, "<H", 29)
    with pytest.raises(SampleError, match=r"20 x 30 pixels .*, but the table says 20 x 29"):
        BetonDataset(stock_beton.path).rgb(0)


def test_labels_that_are_no_classes_have_no_class_names(stock_beton: Any) -> None:
    patch(stock_beton.path, ROWS + 32, "<q", -1)
    assert Beton(stock_beton.path).classes == ()
    patch(stock_beton.path, ROWS + 32, "<q", 1 << 62)
    assert Beton(stock_beton.path).classes == () and Beton(stock_beton.path).labels[0] == 1 << 62
