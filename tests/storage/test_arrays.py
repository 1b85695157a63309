"""Images in memory: layouts, TensorDataset, labels, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision import transforms

from fastpipe import ArgumentError, ArrayDataset, DataLoader, EmptyDatasetError, SampleError, augment
from fastpipe.batch import at_once

LEVELS = np.random.default_rng(1).integers(0, 255, (12, 14, 16, 3), np.uint8)
GREY = LEVELS[..., 0]
STEPS = transforms.Compose(
    [transforms.RandomCrop((14, 16), padding=2), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
FORMS: dict[str, tuple[Any, Any]] = {
    "NHWC": (LEVELS, LEVELS),
    "NCHW": (LEVELS.transpose(0, 3, 1, 2), LEVELS),
    "a tensor": (torch.from_numpy(LEVELS.transpose(0, 3, 1, 2).copy()), LEVELS),
    "grey": (GREY, GREY[..., None].repeat(3, 3)),
    "grey NHWC": (GREY[..., None], GREY[..., None].repeat(3, 3)),
    "grey NCHW": (torch.from_numpy(GREY[:, None].copy()), GREY[..., None].repeat(3, 3)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_layout_gives_the_image_it_holds(form: str) -> None:
    images, expected = FORMS[form]
    dataset = ArrayDataset(images, list(range(12)))
    for i in (0, 11, -1):
        image, label = dataset[i]
        assert image.mode == "RGB" and np.array_equal(np.asarray(image), expected[i]) and label == i % 12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "backend",
    [
        "torchvision",
        pytest.param("turbo", marks=pytest.mark.turbo_built),
        pytest.param("dali", marks=pytest.mark.dali),
    ],
)
def test_batches_are_those_of_the_same_files(form: str, backend: str, tmp_path: Any) -> None:
    if backend == "dali":
        pytest.importorskip("nvidia.dali")
    images, expected = FORMS[form]
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path, image in zip(paths, expected, strict=True):
        Image.fromarray(image).save(path)
    from fastpipe import ImageList

    options: Any = {"batch_size": 5, "shuffle": True, "seed": 2, "backend": backend}
    labels = [i % 5 for i in range(12)]
    found = list(DataLoader(ArrayDataset(images, labels, STEPS), **options))
    reference = list(DataLoader(ImageList(paths, labels, STEPS), **{**options, "backend": "torchvision"}))
    for (one, own), (two, other) in zip(found, reference, strict=True):
        assert torch.equal(one, two) and torch.equal(own, other) and own.dtype == torch.int64


def test_a_tensor_dataset_takes_a_transform() -> None:
    tensors = TensorDataset(torch.from_numpy(LEVELS.transpose(0, 3, 1, 2).copy()), torch.arange(12))
    loader: Any = DataLoader(tensors, 5, transform=STEPS, seed=2, shuffle=True)
    assert loader.explain().reason == "images in memory with a torchvision pipeline"
    expected: Any = DataLoader(ArrayDataset(LEVELS, list(range(12)), STEPS), 5, seed=2, shuffle=True)
    # As Lightning and accelerate make it anew, from its attributes.
    again: Any = DataLoader(loader.dataset, 5, transform=loader.transform, seed=2, shuffle=True)
    for (one, own), (two, other), (three, _) in zip(loader, expected, again, strict=True):
        assert torch.equal(one, two) and torch.equal(own, other) and torch.equal(one, three)
    only = DataLoader(TensorDataset(tensors.tensors[0]), 5, transform=STEPS, seed=2)
    assert [len(batch) for batch in only] == [1, 1, 1]


def test_a_tensor_dataset_without_a_transform_stays_torchs() -> None:
    tensors = TensorDataset(torch.from_numpy(LEVELS), torch.arange(12))
    loader = DataLoader(tensors, 12)
    assert not loader.explain().lifted and torch.equal(next(iter(loader))[0], tensors.tensors[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_float_vectors_and_no_labels_come_as_torch_collates_them(workers: int) -> None:
    plain = transforms.Compose([transforms.CenterCrop(10), transforms.ToTensor()])
    for labels in (np.eye(12, 3, dtype=np.float32), np.linspace(0, 1, 12), ["a", "b"] * 6, None):
        dataset = ArrayDataset(LEVELS, labels, plain)
        loader: Any = DataLoader(dataset, 5, num_workers=workers, backend="torchvision")
        for batch, other in zip(loader, torch.utils.data.DataLoader(dataset, 5), strict=True):
            assert len(batch) == len(other)
            for one, two in zip(batch, other, strict=True):
                assert torch.equal(one, two) and one.dtype == two.dtype


@pytest.mark.parametrize("kind", [torch.tensor, np.array, np.int32, np.uint8], ids=lambda kind: kind.__name__)
def test_whole_numbers_of_numpy_and_torch_are_class_numbers(kind: Any) -> None:
    """A list of tensors without axes, as `list(tensor)` gives, was refused by MixUp as 0 classes."""
    images = np.zeros((12, 8, 8, 3), np.uint8)
    made = ArrayDataset(images, [kind(number % 3) for number in range(12)], transforms.ToTensor())
    assert [made[number][1] for number in (0, 5)] == [0, 2] and type(made[5][1]) is int
    _, labels = next(iter(DataLoader(made, 12, num_classes=3, augment=[augment.MixUp(0.2)])))
    assert labels.shape == (12, 3)
    with pytest.raises(ArgumentError, match="num_classes must be given"):
        list(DataLoader(made, 12, augment=[augment.MixUp(0.2)]))


def test_a_resumed_epoch_goes_on_with_the_next_sample() -> None:
    def loader() -> Any:
        return DataLoader(ArrayDataset(LEVELS, list(range(12)), STEPS), 5, shuffle=True, seed=3)

    whole = list(loader())
    first = loader()
    next(iter(first))
    second = loader()
    second.load_state_dict(first.state_dict())
    for (one, own), (two, other) in zip(second, whole[1:], strict=True):
        assert torch.equal(one, two) and torch.equal(own, other)


def test_a_delivered_batch_is_not_the_data_sets_memory() -> None:
    levels = LEVELS.copy()
    dataset = ArrayDataset(levels, torch.arange(12), transforms.PILToTensor())
    images, labels = next(iter(DataLoader(dataset, 12, backend="torchvision", engine="none")))[:2]
    images.fill_(0)
    labels.fill_(0)
    assert np.array_equal(levels, LEVELS) and dataset[3][1] == 3


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (LEVELS.astype(np.float32), {}, "must be a uint8 array.*float32"),
        (torch.zeros(2, 3, 4, 4), {}, "must be a uint8 array.*torch.float32 on cpu"),
        ([[1, 2]], {}, "must be a uint8 array.*list"),
        (LEVELS[..., :2], {}, r"must be \[N,H,W,3\].*Found: \[12, 14, 16, 2\]"),
        (LEVELS[0, 0], {}, r"must be \[N,H,W,3\]"),
        (np.zeros((2, 3, 8, 3), np.uint8), {}, "layout must be given"),
        (LEVELS, {"layout": "NCHW"}, r"must be \[N,H,W,3\]"),
        (LEVELS, {"layout": "CHW"}, "layout must be 'NHWC'"),
        (LEVELS[:0], {}, "at least one"),
        (LEVELS, {"labels": [1, 2]}, "one for each of the 12 images. Found: 2"),
        (LEVELS, {"target_transform": int}, "target_transform must be None"),
    ],
)
def test_wrong_arrays_are_refused(images: Any, options: Any, message: str) -> None:
    with pytest.raises((ArgumentError, EmptyDatasetError), match=message):
        ArrayDataset(images, **options)


def test_an_ambiguous_shape_can_be_told() -> None:
    images = np.arange(2 * 3 * 8 * 3, dtype=np.uint8).reshape(2, 3, 8, 3)
    assert ArrayDataset(images, layout="NHWC")[0][0].size == (8, 3)
    assert ArrayDataset(images, layout="NCHW")[0][0].size == (3, 8)


def test_a_tensor_dataset_of_three_is_refused() -> None:
    tensors = TensorDataset(torch.from_numpy(LEVELS), torch.arange(12), torch.arange(12))
    with pytest.raises(ArgumentError, match="Found: 3 tensors"):
        DataLoader(tensors, 5, transform=STEPS)


def test_a_crop_that_does_not_fit_names_the_image_and_another_fault_stays_itself(monkeypatch: Any) -> None:
    large = transforms.Compose([transforms.RandomCrop(40), transforms.ToTensor()])
    with pytest.raises(SampleError, match=r"ArrayDataset#\d+'?: the crop of 40 x 40 pixels is larger"):
        list(DataLoader(ArrayDataset(LEVELS, transform=large), 4))

    def broken(*given: Any) -> Any:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(at_once, "random_corners", broken)
    with pytest.raises(ValueError, match="broadcast"):
        list(DataLoader(ArrayDataset(LEVELS, transform=STEPS), 4))
