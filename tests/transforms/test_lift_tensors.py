"""torchvision's v2 pipelines that work on tensors: a crop commutes with the conversion, a resize does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torch.utils.data import DataLoader as TorchLoader
from torchvision.datasets import ImageFolder

from fastpipe import ArrayDataset, DataLoader
from fastpipe.transforms import ResizeCrop, lift

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENDING = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
SAMPLE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8))


def where(pipeline: Any) -> list[str]:
    return [note.where for note in lift(pipeline, sample=SAMPLE).notes]


class Double:
    """A script's own step, which takes a tensor."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        assert isinstance(image, torch.Tensor) and image.shape[0] == 3
        return image // 2


HEADS: dict[str, list[Any]] = {
    "centre": [v2.ToImage(), v2.ToDtype(torch.uint8, scale=True), v2.CenterCrop(40)],
    "centre beyond the image": [v2.PILToTensor(), v2.CenterCrop((170, 31))],
    "resize, then tensors": [v2.Resize(60), v2.ToImage(), v2.CenterCrop(48)],
    "v1": [v1.PILToTensor(), v1.CenterCrop(40)],
    "an own step": [v2.ToImage(), v2.CenterCrop(40), Double()],
    "a resize": [v2.ToImage(), v2.Resize((33, 44), antialias=True)],
}


@pytest.mark.parametrize("name", HEADS)
def test_batches_are_torchs_to_the_bit(photos: Path, name: str) -> None:
    dataset = ImageFolder(str(photos), v2.Compose([*HEADS[name], *ENDING]))
    ours = DataLoader(dataset, 6)
    assert ours.explain().lifted
    for batch, expected in zip(ours, TorchLoader(dataset, 6), strict=True):
        assert torch.equal(batch[0], expected[0]) and torch.equal(batch[1], expected[1])


def test_a_random_crop_draws_as_on_images(photos: Path) -> None:
    batches = []
    for head in ([], [v2.ToImage()]):
        crop = [*head, v2.RandomCrop(32, padding=(3, 4)), v2.RandomHorizontalFlip()]
        steps = [*crop, *([] if head else [v2.ToImage()]), *ENDING]
        loader = DataLoader(ImageFolder(str(photos), v2.Compose(steps)), 24, seed=5)
        assert all(note.where != "worker" for note in loader.explain().steps)
        batches.append(next(iter(loader))[0])
    assert torch.equal(*batches)


def test_where_the_steps_run() -> None:
    plan = lift(v2.Compose([v2.ToImage(), v2.RandomCrop(9), *ENDING])).plan
    assert plan is not None and plan.host == () and plan.decode == ResizeCrop(crop=(9, 9), where="random")
    assert where(v2.Compose([v2.ToImage(), v2.RandomCrop(9), *ENDING])) == [
        "device",
        "decoder",
        "device",
        "device",
    ]
    own = v2.Compose([v2.ToImage(), v2.RandomCrop(9), Double(), *ENDING])
    assert where(own) == ["worker", "decoder", "worker", "device", "device"]


@pytest.mark.parametrize("step", [v2.RandomResizedCrop(9, antialias=True), v2.Resize(9), v1.Resize(9)])
def test_a_resize_of_a_tensor_stays_torchvisions_and_says_why(step: Any) -> None:
    lifted = lift(v2.Compose([v2.ToImage(), step, v2.CenterCrop(8), *ENDING]), sample=SAMPLE)
    assert lifted.plan is not None and lifted.plan.decode is None
    assert [note.where for note in lifted.notes] == ["worker", "worker", "worker", "device", "device"]
    assert lifted.notes[1].why.startswith("on a tensor torchvision resizes by other arithmetic than Pillow")


def test_torchvisions_resize_of_tensors_differs_from_pillows() -> None:
    """The reason that `explain()` gives; if it stops being true, the resize can be lifted."""
    tensor = v2.functional.pil_to_tensor(SAMPLE)
    theirs = v2.functional.resize(tensor, [30, 40], antialias=True)
    assert not torch.equal(theirs, v2.functional.pil_to_tensor(v2.functional.resize(SAMPLE, [30, 40])))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_images_in_memory_are_given_as_tensors(layout: str) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (12, 20, 24, 3), dtype=np.uint8)
    images = levels if layout == "NHWC" else levels.transpose(0, 3, 1, 2)
    transform = v2.Compose([v2.CenterCrop(16), *ENDING])
    dataset = ArrayDataset(images, list(range(12)), transform, as_tensor=True)
    loader = DataLoader(dataset, 4)
    assert [note.where for note in loader.explain().steps] == ["device", "decoder", "device", "device"]
    for batch, expected in zip(loader, TorchLoader(dataset, 4), strict=True):
        assert torch.equal(batch[0], expected[0]) and torch.equal(batch[1], expected[1])
    image, _ = ArrayDataset(images, list(range(12)), as_tensor=True)[3]
    assert torch.equal(image, torch.from_numpy(levels[3]).permute(2, 0, 1))
