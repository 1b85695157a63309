from __future__ import annotations

import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from fastpipe.errors import SampleError
from fastpipe.storage import FolderDataset, open_index


def test_face_equals_image_folder(photos: Path) -> None:
    ours, theirs = FolderDataset(photos), ImageFolder(photos)
    assert len(ours) == len(theirs)
    assert ours.classes == theirs.classes and ours.class_to_idx == theirs.class_to_idx
    assert list(ours.samples) == theirs.samples and list(ours.imgs) == theirs.imgs
    assert list(ours.targets) == theirs.targets
    assert ours.root == str(theirs.root) and ours.extensions == theirs.extensions
    assert ours.loader is default_loader is theirs.loader
    assert ours.transform is None and ours.target_transform is None


def test_views_behave_like_lists(photos: Path) -> None:
    ours, theirs = FolderDataset(photos), ImageFolder(photos)
    assert ours.samples[-1] == theirs.samples[-1]
    assert ours.samples[1:6:2] == theirs.samples[1:6:2]
    assert ours.targets[::-1] == theirs.targets[::-1]
    assert ours.samples == theirs.samples and ours.targets == theirs.targets
    assert ours.targets != theirs.targets[:-1] and ours.targets != 5
    assert ours.targets.index(1) == 3 and ours.targets.count(0) == 3 and 1 in ours.targets
    assert collections.Counter(ours.targets) == {0: 3, 1: 4}
    for out_of_range in (7, -8):
        with pytest.raises(IndexError):
            ours.samples[out_of_range]
    assert repr(ours.targets) == "[0, 0, 0, ... 7 in all]"


def test_targets_become_arrays(photos: Path) -> None:
    targets = FolderDataset(photos).targets
    assert np.asarray(targets).dtype == np.int64
    assert np.asarray(targets).tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert np.bincount(targets).tolist() == [3, 4]
    assert torch.tensor(targets).tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert torch.as_tensor(targets).dtype == torch.int64
    np.asarray(targets)[:] = 9
    assert list(targets) == [0, 0, 0, 1, 1, 1, 1]


def test_pixels_equal_image_folder(photos: Path) -> None:
    Image.new("CMYK", (4, 3), (10, 20, 30, 40)).save(photos / "ant" / "cmyk.jpg")
    Image.new("P", (4, 3), 3).save(photos / "ant" / "palette.png")
    Image.new("RGBA", (4, 3), (1, 2, 3, 4)).save(photos / "ant" / "alpha.png")
    ours, theirs = FolderDataset(photos), ImageFolder(photos)
    for i in range(len(theirs)):
        (image, label), (expected, expected_label) = ours[i], theirs[i]
        assert image.mode == "RGB" and image.tobytes() == expected.tobytes()
        assert label == expected_label and type(label) is int
    assert ours[-1][1] == theirs[-1][1]


def test_transforms(photos: Path) -> None:
    dataset = FolderDataset(photos, lambda image: image.size, lambda label: -label)
    assert dataset[4] == ((11, 21), -1)


@pytest.mark.parametrize("content", [b"", b"hello", None], ids=["empty", "text", "missing"])
def test_bad_file_is_named(photos: Path, content: bytes | None) -> None:
    dataset = FolderDataset(photos)
    path = photos / "bee" / "2.jpg"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(
        SampleError, match=r"bee/2\.jpg.*cannot be read as an image.*Remove or replace"
    ) as caught:
        dataset[5]
    assert (caught.value.path, caught.value.sample_id) == (str(path), 5)


def test_truncated_file_is_named(photos: Path) -> None:
    path = photos / "bee" / "2.jpg"
    Image.effect_noise((200, 200), 50).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SampleError, match=r"bee/2\.jpg.*truncated"):
        FolderDataset(photos)[5]


def test_loads_in_a_torch_loader_with_workers(photos: Path) -> None:
    transform = v2.Compose([v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    ours = torch.utils.data.DataLoader(FolderDataset(photos, transform), batch_size=4, num_workers=1)
    theirs = torch.utils.data.DataLoader(ImageFolder(photos, transform), batch_size=4)
    for (images, labels), (expected, expected_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(images, expected) and torch.equal(labels, expected_labels)


def test_pickles(photos: Path) -> None:
    dataset = FolderDataset(photos)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.samples == dataset.samples and again[0][0].tobytes() == dataset[0][0].tobytes()


def test_index_is_shared(photos: Path) -> None:
    index = open_index(photos)
    assert FolderDataset(photos, index=index).index is index


def test_repr(photos: Path) -> None:
    text = repr(FolderDataset(photos, v2.Compose([v2.Resize(8)]), str))
    for part in ("FolderDataset", "datapoints: 7", "classes: 2", str(photos), "Resize", "Target transform"):
        assert part in text
