"""`Leaf`: a kind of storage that is added here, and what the leaves of folders and `.beton` files answer.

The toy kind needs two places, both of which a real one has in storage/: a module with its data set and its
leaf, and a line `register` in storage/__init__.py. No other file knows of it.
"""

from __future__ import annotations

import ast
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import DataLoader, FolderDataset, SampleError
from fastpipe.batch.locate import labels_of
from fastpipe.batch.quarantine import default_quarantine
from fastpipe.storage import BetonDataset, Leaf, leaf_of, open_images, register, write_beton

ROOT = Path(__file__).parents[2]
TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
SHELVES: dict[str, tuple[list[str], list[bytes], list[Any]]] = {}


# ---- the toy kind: this would be storage/memory.py


class MemoryDataset(Dataset[Any]):
    """Image files held in memory, on a shelf that has a name."""

    def __init__(self, shelf: str, transform: Callable[[Any], Any] | None = None) -> None:
        self.shelf, self.transform = shelf, transform
        self.names, self.files, self.labels = SHELVES[shelf]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        image: Any = Image.open(io.BytesIO(self.files[index])).convert("RGB")
        return image if self.transform is None else self.transform(image), self.labels[index]


class MemoryLeaf(Leaf):
    kind: ClassVar[str] = "memory"
    words: ClassVar[tuple[str, str]] = ("pictures in memory", "pictures in memory")
    asked: ClassVar[list[int]] = []

    @classmethod
    def open(cls, place: Any, transform: Callable[[Any], Any] | None) -> MemoryDataset | None:
        known = isinstance(place, str) and place.startswith("memory:")
        return MemoryDataset(place.removeprefix("memory:"), transform) if known else None

    @property
    def root(self) -> str:
        return f"memory-{self.dataset.shelf}"

    def key(self, i: int) -> str:
        return f"memory:{self.dataset.names[i]}"

    def label(self, i: int) -> Any:
        return self.dataset.labels[i]

    def encoded(self, i: int) -> bytes:
        self.asked.append(i)
        data: bytes = self.dataset.files[i]
        if not data:
            raise SampleError(f"{self.key(i)!r} is empty", path=self.key(i))
        return data


register(MemoryDataset, MemoryLeaf)


# ---- what it is given


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 JPEGs and PNGs of two classes."""
    rng = np.random.default_rng(5)
    for number in range(24):
        name = ("ant", "bee")[number % 2]
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 255, (30 + number, 40 - number // 2, 3), np.uint8))
        image.save(tmp_path / "photos" / name / f"{number:02}.{'png' if number % 5 == 0 else 'jpg'}")
    return tmp_path / "photos"


def in_memory(folder: Path, transform: Any = TRAIN) -> MemoryDataset:
    """The same files, read now."""
    samples = FolderDataset(folder).samples
    names, labels = [path for path, _ in samples], [label for _, label in samples]
    SHELVES["photos"] = names, [Path(path).read_bytes() for path in names], list(labels)
    return MemoryDataset("photos", transform)


def damage(folder: Path, *places: int) -> None:
    for place in places:
        path = Path(FolderDataset(folder).samples[place][0])
        path.write_bytes(path.read_bytes()[:200])


def batches(dataset: Any, **options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings = {"backend": "torchvision", "batch_size": 5, "seed": 3, "shuffle": True, **options}
    loader: Any = DataLoader(dataset, **settings)
    assert loader.explain().lifted, loader.explain().reason
    return list(loader)


def same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    for (images, labels), (others, expected_labels) in zip(found, expected, strict=True):
        assert torch.equal(images, others) and labels.tolist() == expected_labels.tolist()


# ---- the toy kind, read by the loader


@pytest.mark.parametrize("workers", [0, 2])
def test_a_new_kind_gives_the_batches_of_the_same_files_in_a_folder(folder: Path, workers: int) -> None:
    expected = batches(ImageFolder(str(folder), TRAIN))
    same(batches(in_memory(folder), num_workers=workers), expected)
    same(batches("memory:photos", transform=TRAIN, num_workers=workers), expected)


@pytest.mark.dali
def test_dali_reads_a_new_kind_unchanged(folder: Path) -> None:
    same(batches(in_memory(folder), backend="dali"), batches(FolderDataset(folder, TRAIN)))


def test_a_new_kind_joins_others(folder: Path) -> None:
    memory, files = in_memory(folder), FolderDataset(folder, TRAIN)
    expected = batches(ConcatDataset([files, Subset(files, [7, 3, -1])]))
    joined: Any = ConcatDataset([files, Subset(memory, [7, 3, -1])])
    same(batches(joined), expected)
    assert DataLoader(joined, 5).explain().reason.startswith("folders and pictures in memory with")
    assert DataLoader(memory, 5).explain().reason.startswith("pictures in memory with")


@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_broken_samples_of_a_new_kind_are_mended_and_listed(folder: Path, on_error: str) -> None:
    damage(folder, 2, 11)
    expected = batches(ImageFolder(str(folder), TRAIN), on_error=on_error)
    memory = in_memory(folder)
    same(batches(memory, on_error=on_error), expected)
    path = default_quarantine(memory)
    assert path is not None and path.name.startswith("memory-photos-")
    listed = [json.loads(line)["path"] for line in path.read_text().splitlines()]
    assert sorted(listed) == [f"memory:{memory.names[place]}" for place in (2, 11)]
    MemoryLeaf.asked.clear()
    same(batches(memory, on_error=on_error), expected)
    assert MemoryLeaf.asked and not {2, 11} & set(MemoryLeaf.asked)


def test_a_broken_sample_of_a_new_kind_is_named(folder: Path) -> None:
    memory = in_memory(folder)
    memory.files[4] = b""
    with pytest.raises(SampleError, match=f"'memory:{memory.names[4]}' is empty") as caught:
        batches(memory)
    assert caught.value.sample_id == 4


def test_a_replacement_has_the_same_label_whatever_labels_are(folder: Path) -> None:
    memory = in_memory(folder)
    memory.labels[:] = [("odd", "even", ("a", "pair"))[place % 3] for place in range(24)]
    memory.files[5] = b""
    assert labels_of(memory).tolist() == memory.labels
    given = [str(labels[0]) for _, labels in batches(memory, on_error="replace", batch_size=1)]
    assert sorted(given) == sorted(["odd", "even", "('a',)"] * 8)


def test_its_own_code_is_not_passed_over(folder: Path) -> None:
    class Turned(MemoryDataset):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(-index)

    in_memory(folder)
    resize = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
    loader: Any = DataLoader(Turned("photos", resize), 5)
    assert "lifted by proof" in loader.explain().reason
    same(list(loader), list(torch.utils.data.DataLoader(Turned("photos", resize), 5)))


# ---- folders and .beton files


@pytest.fixture
def beton(folder: Path, tmp_path: Path) -> BetonDataset:
    write_beton(folder, tmp_path / "photos.beton", num_workers=0)
    return BetonDataset(tmp_path / "photos.beton")


def leaves_of(folder: Path, beton: BetonDataset) -> Iterator[Leaf]:
    for dataset in (FolderDataset(folder), ImageFolder(str(folder)), beton):
        leaf = leaf_of(dataset)
        assert leaf is not None
        yield leaf


def test_every_leaf_gives_the_pixels_labels_and_bytes(folder: Path, beton: BetonDataset) -> None:
    expected = ImageFolder(str(folder))
    ids = np.array([23, 0, 5, 5], dtype=np.int64)
    for leaf in leaves_of(folder, beton):
        assert len(leaf) == 24 and tuple(leaf.classes) == ("ant", "bee")
        for i in (0, 7, 23):
            image, label = expected[i]
            data = leaf.encoded(i)
            assert leaf.label(i) == label and np.array_equal(np.asarray(leaf.rgb(i)), np.asarray(image))
            assert leaf.size(i) in (None, (image.height, image.width))
            assert leaf.raw(i) or np.array_equal(np.asarray(leaf.rgb(i, data)), np.asarray(image))
        assert leaf.labels(ids).tolist() == [expected.targets[i] for i in ids]
        assert leaf.labels(ids).dtype == np.int64
        assert leaf.sizes(ids).tolist() == [list(leaf.size(i) or (0, 0)) for i in ids.tolist()]
        assert [bytes(one) for one in leaf.encoded_many(ids)] == [bytes(leaf.encoded(i)) for i in ids]  # type: ignore[arg-type]


def test_a_native_reader_finds_the_bytes(folder: Path, beton: BetonDataset) -> None:
    ids = np.array([23, 0, 5], dtype=np.int64)
    for leaf in leaves_of(folder, beton):
        located = leaf.locate(ids)
        assert located is not None
        for place, i in enumerate(ids.tolist()):
            data = Path(os.fsdecode(located.files[located.file[place]])).read_bytes()[located.offset[place] :]
            length = int(located.length[place])
            assert (data if length < 0 else data[:length]) == bytes(leaf.encoded(i))
    memory = leaf_of(in_memory(folder))
    assert memory is not None and memory.locate(ids) is None


def test_a_failure_among_many_stands_in_its_place(folder: Path) -> None:
    dataset = FolderDataset(folder)
    Path(dataset.samples[3][0]).unlink()
    leaf = leaf_of(dataset)
    assert leaf is not None
    first, failed, last = leaf.encoded_many(np.array([2, 3, 4], dtype=np.int64))
    assert isinstance(failed, SampleError) and dataset.samples[3][0] in str(failed)
    assert (first, last) == (leaf.encoded(2), leaf.encoded(4))


def test_keys_and_pages_are_those_of_the_file(folder: Path, beton: BetonDataset) -> None:
    ours, torchvisions, file = leaves_of(folder, beton)
    assert ours.key(3) == torchvisions.key(3) == ours.name(3) == ImageFolder(str(folder)).samples[3][0]
    assert file.key(3) == f"{beton.beton.path}#3" and file.name(3) == beton.samples[3][0]
    assert ours.pages() is None
    pages = file.pages()
    assert pages is not None and pages.tolist() == [
        int(pointer) // beton.beton.page_size for pointer in beton.beton.pointers
    ]


def test_what_is_open_already_is_opened_without_reading_it_again(folder: Path, beton: BetonDataset) -> None:
    files = FolderDataset(folder)
    assert open_images(files.index, TRAIN).index is files.index
    assert open_images(beton.beton, TRAIN).beton is beton.beton
    assert isinstance(open_images(str(beton.beton.path), None), BetonDataset)


# ---- no other room asks for kinds


def test_no_room_but_storage_asks_which_kind_it_is() -> None:
    kinds = {"Beton", "BetonDataset", "BetonLeaf", "FolderDataset", "FolderLeaf", "DatasetFolder"}
    kinds |= {"ImageFolder", "FolderIndex", "MemoryDataset"}
    found = []
    for room in ("fastpipe", "train", "profiling"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.is_relative_to(ROOT / "fastpipe" / "storage"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or ast.unparse(node.func) not in (
                    "isinstance",
                    "issubclass",
                    "hasattr",
                    "getattr",
                ):
                    continue
                names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                asked = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                if names & kinds or asked & {"beton", "index", "samples"}:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not found, "\n".join(found)
