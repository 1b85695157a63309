"""Data sets in the style of public projects: which are lifted by proof, and that none of them changes.

docs/lifting.md has the table of this file.
"""

from __future__ import annotations

import functools
import io
import random
import threading
import zipfile
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, default_collate
from torchvision import transforms, tv_tensors
from torchvision.datasets import ImageFolder, VisionDataset
from torchvision.transforms import v2

from fastpipe import DataLoader, ImageList

ROOT = Path(__file__).parent.parent.parent
TorchLoader = torch.utils.data.DataLoader
NORMALIZE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
EVAL = transforms.Compose(
    [transforms.Resize(36), transforms.CenterCrop(32), transforms.ToTensor(), NORMALIZE]
)
TRAIN = transforms.Compose(
    [
        transforms.RandomResizedCrop(32),
        transforms.RandomHorizontalFlip(),
        transforms.RandAugment(),
        transforms.ToTensor(),
        NORMALIZE,
    ]
)
LEVELS = v2.Compose(
    [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5,) * 3, (0.2,) * 3)]
)
FLIPPED = v2.Compose([v2.RandomHorizontalFlip(1.0), *LEVELS.transforms])
NUM = 12


class Files(Dataset):
    """The usual one: a list of files, (image, label)."""

    def __init__(self, files, transform=None):
        self.files = [str(file) for file in files]
        self.labels = [place % 3 for place in range(len(files))]
        self.transform = transform

    def __len__(self):
        return len(self.files)

    def read(self, index):
        return Image.open(self.files[index]).convert("RGB")

    def __getitem__(self, index):
        return self.transform(self.read(index)), self.labels[index]


class Dicts(Files):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return {"path": self.files[index], "image": image, "label": label}


class Nested(Files):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return {"inputs": (image, index), "label": torch.tensor([label, 1.0])}


class WithIndex(Files):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, label, index


class WithPath(Files):
    def __getitem__(self, index):
        return super().__getitem__(index)[0], self.files[index]


class LabelFirst(Files):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return label, image


class ImageAlone(Files):
    def __getitem__(self, index):
        return super().__getitem__(index)[0]


Item = namedtuple("Item", "image label")


class Named(Files):
    def __getitem__(self, index):
        return Item(*super().__getitem__(index))


class BoxesBeside(Files):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        box = tv_tensors.BoundingBoxes([[1, 2, 9, 9]], format="XYXY", canvas_size=(32, 32))
        return image, {"boxes": box, "label": label}


class Joint(Files):
    """Segmentation by v2: image and mask through one pipeline. Sizes are equal, as in a prepared data set."""

    def __getitem__(self, index):
        mask = tv_tensors.Mask(torch.arange(40 * 40).view(40, 40) % (index + 2))
        return self.transform(self.read(index).resize((40, 40)), mask)


class TwoCrops(Files):
    def __getitem__(self, index):
        image = self.read(index)
        return self.transform(image), self.transform(image)


class TwoViews:
    def __init__(self, transform):
        self.transform = transform

    def __call__(self, image):
        return [self.transform(image), self.transform(image)]


class Pairs(Files):
    """Siamese: two files, one pipeline."""

    def __getitem__(self, index):
        return self.transform(self.read(index)), self.transform(self.read(-index)), self.labels[index]


class InCollate(Files):
    def __getitem__(self, index):
        return self.read(index), self.labels[index]


class AlbumentationsLike:
    """As albumentations are called: by name, on an array, with a dict as the result."""

    def __call__(self, *, image):
        return {"image": torch.from_numpy(image[:32, :32].copy()).permute(2, 0, 1).float() / 255}


class Albumentations(Files):
    def __getitem__(self, index):
        return self.transform(image=np.asarray(self.read(index)))["image"], self.labels[index]


class CachedSamples(Files):
    def __init__(self, *args):
        super().__init__(*args)
        self.cache = {}

    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = super().__getitem__(index)
        return self.cache[index]


class CachedFiles(Files):
    """Keeps what it reads in a cache of Python's, outside the object."""

    @staticmethod
    @functools.lru_cache
    def bytes_of(file):
        return Path(file).read_bytes()

    def read(self, index):
        return Image.open(io.BytesIO(self.bytes_of(self.files[index]))).convert("RGB")


class TargetTransform(Files):
    def __init__(self, *args):
        super().__init__(*args)
        self.target_transform = transforms.Lambda(lambda label: label * 10)

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, self.target_transform(label)


class LazyZip(Files):
    """Opens its archive in the worker, as data sets over lmdb and HDF5 do."""

    def __init__(self, files, transform):
        super().__init__(files, transform)
        self.archive = None

    def read(self, index):
        if self.archive is None:
            self.archive = zipfile.ZipFile(Path(self.files[0]).parent.parent / "all.zip")
        with self.archive.open(Path(self.files[index]).name) as file:
            return Image.open(file).convert("RGB")


class Locked(Files):
    """Holds what no copy can hold, as an open file or a data base does."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lock = threading.Lock()

    def read(self, index):
        with self.lock:
            return super().read(index)


class OtherName(Files):
    def __init__(self, files, transform):
        super().__init__(files)
        self.tf = transform

    def __getitem__(self, index):
        image = self.read(index)
        if self.tf is not None:
            image = self.tf(image)
        return image, self.labels[index]


class ByFlag(Files):
    def __init__(self, files, transform):
        super().__init__(files)
        self.train = False
        self.train_transform, self.test_transform = transforms.Compose([*TRAIN.transforms]), transform

    def __getitem__(self, index):
        transform = self.train_transform if self.train else self.test_transform
        return transform(self.read(index)), self.labels[index]


class Arrays(Files):
    def __getitem__(self, index):
        return self.transform(self.read(index)).numpy(), self.labels[index]


class ByHand(Files):
    def __getitem__(self, index):
        return self.transform(self.read(index)) * 2 - 1, self.labels[index]


class RandomImage(Files):
    """Draws which of two files a sample is."""

    def __getitem__(self, index):
        chosen = (index + random.randint(0, 1)) % len(self)
        return self.transform(self.read(chosen)), self.labels[chosen]


class OneSeed(Files):
    """The old way to crop an image and its mask alike."""

    def __getitem__(self, index):
        seed = random.randint(0, 1 << 30)
        torch.manual_seed(seed)
        image = self.transform(self.read(index))
        torch.manual_seed(seed)
        return image, transforms.functional.to_tensor(transforms.RandomCrop(16)(self.read(index)))


class Folder(ImageFolder):
    def __getitem__(self, index):
        path, label = self.samples[index]
        return self.transform(self.loader(path)), label, path


class InMemory(Files):
    def __init__(self, files, transform):
        super().__init__(files, transform)
        self.images = [Files.read(self, index) for index in range(len(files))]

    def read(self, index):
        return self.images[index]


class OpenCV(Files):
    """Arrays with ToPILImage at the head of the pipeline."""

    def read(self, index):
        return np.asarray(super().read(index))


class ResizedBefore(Files):
    def read(self, index):
        return super().read(index).resize((50, 44))


class Retry(Files):
    """Takes another sample for one that it cannot read."""

    def __getitem__(self, index):
        try:
            if index == 4:
                raise OSError("truncated")
            return super().__getitem__(index)
        except OSError:
            return self[(index + 1) % len(self)]


class Nones(Files):
    def __getitem__(self, index):
        return None if index == 4 else super().__getitem__(index)


class Stream(IterableDataset):
    def __init__(self, files, transform):
        self.files, self.transform = files, transform

    def __iter__(self):
        for place, file in enumerate(self.files):
            yield self.transform(Image.open(file).convert("RGB")), place


class Wrapper(Dataset):
    """Adds the index to another data set's samples."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return (*self.inner[index], index)


class Counts(Files):
    def __init__(self, *args):
        super().__init__(*args)
        self.calls = 0

    def __getitem__(self, index):
        self.calls += 1
        return super().__getitem__(index)


class Pops(Files):
    def __init__(self, *args):
        super().__init__(*args)
        self.pool = list(range(1000))

    def __getitem__(self, index):
        return super().__getitem__(index)[0], self.pool.pop()


class OwnGenerator(Files):
    def __init__(self, *args):
        super().__init__(*args)
        self.rng = np.random.default_rng(0)

    def __getitem__(self, index):
        return super().__getitem__(index)[0], float(self.rng.random())


class Grey(Files):
    def read(self, index):
        return super().read(index).convert("L")


class Plain:
    """No torch class at all."""

    def __init__(self, files, transform):
        self.files, self.transform = [str(file) for file in files], transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.transform(Image.open(self.files[index]).convert("RGB")), index


class Vision(VisionDataset):
    """As torchvision's own detection sets: `transforms` is a pair made of transform and target_transform."""

    def __init__(self, files, transform):
        super().__init__(transform=transform, target_transform=lambda label: label + 1)
        self.files = [str(file) for file in files]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.transforms(Image.open(self.files[index]).convert("RGB"), index)


class Several(Files):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Shape(Files):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, label, image.shape[-1]


class Looks(Files):
    def __getitem__(self, index):
        if isinstance(self.transform, transforms.Compose):
            return super().__getitem__(index)
        return torch.zeros(3, 32, 32), 0


class MaskTransform(Files):
    def __init__(self, *args):
        super().__init__(*args)
        self.mask_transform = transforms.Compose([transforms.Resize((8, 8)), transforms.PILToTensor()])

    def __getitem__(self, index):
        image = self.read(index)
        return self.transform(image), self.mask_transform(image.convert("L"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """what: in words, for the table. lifts: None, or the condition that fails. same: sample i is file i."""

    what: str
    make: Any
    lifts: str | None = None
    transform: Any = EVAL
    collate: Any = None
    same: bool = True
    image: Any = 0


def without_nones(batch):
    return default_collate([sample for sample in batch if sample is not None])


def transforming(batch):
    return torch.stack([EVAL(image) for image, _ in batch]), torch.tensor([label for _, label in batch])


CASES = {
    "files": Case(what="a list of files, `(image, label)`", make=Files),
    "plain": Case(what="the same, no subclass of torch's `Dataset`", make=Plain),
    "dicts": Case(what="dicts with image, label and path", make=Dicts, image="image"),
    "nested": Case(what="the image deeper inside the sample", make=Nested, same=False),
    "index": Case(what="`(image, label, index)`", make=WithIndex),
    "path": Case(what="`(image, path)`", make=WithPath),
    "label first": Case(what="`(label, image)`", make=LabelFirst, image=1),
    "image alone": Case(what="the image alone", make=ImageAlone, image=None),
    "namedtuple": Case(what="a namedtuple", make=Named),
    "boxes": Case(what="boxes beside the image", make=BoxesBeside),
    "joint levels": Case(
        what="image and mask through one v2 pipeline of photometric steps",
        make=Joint,
        transform=LEVELS,
        same=False,
    ),
    "joint flip": Case(
        what="image and mask through one v2 pipeline with a flip",
        make=Joint,
        transform=FLIPPED,
        lifts="it gives its transform more than the image, and RandomHorizontalFlip(p=1.0) may move pixels",
    ),
    "mask pipeline": Case(
        what="a second pipeline for the mask",
        make=MaskTransform,
        lifts="it calls several pipelines for a sample",
    ),
    "one seed": Case(
        what="image and mask cropped under one seed",
        make=OneSeed,
        transform=transforms.Compose([transforms.RandomCrop(16), transforms.ToTensor()]),
        lifts="its __getitem__ draws from a global generator or seeds one, and its transform draws too",
    ),
    "two crops": Case(
        what="the transform called twice", make=TwoCrops, lifts="it calls its transform more than once"
    ),
    "two views": Case(
        what="a class of one's own that calls the pipeline twice",
        make=lambda files, transform: ImageAlone(files, TwoViews(transform)),
        lifts="none of its attributes holds a torchvision or timm pipeline",
    ),
    "pairs": Case(
        what="two files in a sample (siamese)", make=Pairs, lifts="it calls its transform more than once"
    ),
    "in collate": Case(
        what="the transform in `collate_fn`",
        make=InCollate,
        collate=transforming,
        lifts="collate_fn is the script's own",
    ),
    "albumentations": Case(
        what="a transform of another library (albumentations)",
        make=Albumentations,
        transform=AlbumentationsLike(),
        lifts="none of its attributes holds a torchvision or timm pipeline",
    ),
    "cached samples": Case(
        what="samples kept in a dict",
        make=CachedSamples,
        lifts="it keeps the image that its transform returned",
    ),
    "cached files": Case(what="files kept by `lru_cache`", make=CachedFiles),
    "target transform": Case(what="a `target_transform`, torchvision's Lambda", make=TargetTransform),
    "lazy zip": Case(what="an archive opened at the first sample (zip, lmdb, HDF5)", make=LazyZip),
    "locked": Case(
        what="a lock, an open file or a data base made in `__init__`",
        make=Locked,
        lifts="it cannot be copied for a trial",
    ),
    "other name": Case(what="the pipeline under another name (`self.tf`)", make=OtherName),
    "by flag": Case(what="two pipelines, one used by a train flag", make=ByFlag),
    "numpy": Case(
        what="the image as a numpy array",
        make=Arrays,
        lifts="it reads 'numpy' of the image that its transform returned",
    ),
    "by hand": Case(
        what="arithmetic after the transform",
        make=ByHand,
        lifts="it uses 'mul' on the image that its transform returned",
    ),
    "shape": Case(
        what="the shape of the transformed image in the sample",
        make=Shape,
        lifts="it reads 'shape' of the image that its transform returned",
    ),
    "looks": Case(
        what="a look at the transform's class",
        make=Looks,
        lifts="it looks at the class of its transform",
    ),
    "random image": Case(
        what="a random file for each sample, a transform without draws", make=RandomImage, same=False
    ),
    "random image, random transform": Case(
        what="a random file for each sample, a transform that draws",
        make=RandomImage,
        transform=TRAIN,
        lifts="its __getitem__ draws from a global generator or seeds one, and its transform draws too",
    ),
    "own generator": Case(
        what="a generator of the data set's own",
        make=OwnGenerator,
        lifts="its __getitem__ changes the attribute 'rng'",
    ),
    "counts": Case(
        what="a counter of calls", make=Counts, lifts="its __getitem__ changes the attribute 'calls'"
    ),
    "pops": Case(
        what="items taken from a list", make=Pops, lifts="its __getitem__ changes the attribute 'pool'"
    ),
    "image folder": Case(
        what="a subclass of ImageFolder with a `__getitem__` of its own",
        make=lambda files, transform: Folder(str(files[0].parent.parent), transform),
    ),
    "vision": Case(what="torchvision's `VisionDataset` with `self.transforms(image, target)`", make=Vision),
    "in memory": Case(what="PIL images in memory", make=InMemory),
    "opencv": Case(
        what="arrays with ToPILImage at the head of the pipeline",
        make=OpenCV,
        transform=transforms.Compose([transforms.ToPILImage(), *EVAL.transforms]),
    ),
    "resized before": Case(what="a resize before the transform", make=ResizedBefore, same=False),
    "retry": Case(what="another sample in place of one that cannot be read", make=Retry, same=False),
    "nones": Case(
        what="None for a broken sample, left out by `collate_fn`",
        make=Nones,
        collate=without_nones,
        lifts="collate_fn is the script's own",
    ),
    "wrapper": Case(
        what="a data set around another one", make=lambda files, transform: Wrapper(Files(files, transform))
    ),
    "grey": Case(
        what="grey images",
        make=Grey,
        transform=transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()]),
        lifts="it gives its transform a PIL image of mode L, and not an RGB PIL image",
    ),
    "several": Case(
        what="`__getitems__`, which makes a batch at once",
        make=Several,
        lifts="Several has __getitems__, which makes several samples at once",
    ),
    "stream": Case(what="an `IterableDataset`", make=Stream, lifts="the data set is an IterableDataset"),
}


@pytest.fixture(scope="module")
def files(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve of the photos as PNG in one class folder, and an archive of them beside it."""
    folder = tmp_path_factory.mktemp("own") / "photos" / "all"
    folder.mkdir(parents=True)
    found = []
    for number, path in enumerate(sorted(photos.glob("*/*"))[:NUM]):
        found.append(folder / f"{number:02}.png")
        Image.open(path).convert("RGB").save(found[-1], compress_level=1)
    with zipfile.ZipFile(folder.parent / "all.zip", "w") as archive:
        for path in found:
            archive.write(path, path.name)
    return found


def alike(ours: Any, theirs: Any) -> None:
    """Equal to the bit, and of the same types all the way down."""
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            alike(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            alike(one, other)
    else:
        assert ours == theirs


def run(kind: Any, dataset: Any, case: Case, workers: int, **options: Any) -> list[Any]:
    """Epochs in random order (two, or one with worker processes), and numbers drawn afterwards."""
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    shuffle = not isinstance(dataset, IterableDataset)
    loader = kind(dataset, 5, shuffle=shuffle, num_workers=workers, collate_fn=case.collate, **options)
    epochs = [list(loader) for _ in range(1 if workers else 2)]
    return [epochs, torch.rand(1), random.random(), np.random.rand()]


# With worker processes, those that are not lifted run only torch's own code.
RUNS = [pytest.param(name, 0) for name in CASES] + [
    pytest.param(name, 2, marks=[pytest.mark.slow] if case.lifts else []) for name, case in CASES.items()
]


@pytest.mark.parametrize(("name", "workers"), RUNS)
def test_no_data_set_changes(files: list[Path], name: str, workers: int) -> None:
    """Lifted or not: what torch's own loader gives, which draws from the same generators at the same time."""
    case = CASES[name]
    alike(
        run(DataLoader, case.make(files, case.transform), case, workers),
        run(TorchLoader, case.make(files, case.transform), case, workers),
    )


@pytest.mark.parametrize("name", CASES)
def test_what_is_lifted_and_why_not_the_rest(files: list[Path], name: str) -> None:
    case = CASES[name]
    dataset = case.make(files, case.transform)
    explained = DataLoader(dataset, 5, collate_fn=case.collate).explain()
    assert explained.lifted == (case.lifts is None), explained.reason
    if case.lifts is not None:
        assert case.lifts in explained.reason
    else:
        assert "lifted by proof: every sample is checked" in explained.reason
        assert set(explained.choice.rejected) == {"turbo", "ffcv", "dali"}


def image_of(batch: Any, case: Case) -> torch.Tensor:
    return batch if case.image is None else batch[case.image]


LIFTED = [name for name, case in CASES.items() if case.lifts is None and case.same]


@pytest.mark.parametrize("name", LIFTED)
def test_random_pipelines_have_the_keys_of_a_list_of_the_same_files(files: list[Path], name: str) -> None:
    """Crops, flips and operations depend on (seed, epoch, id) alone, not on the kind of data set."""
    case = CASES[name]
    pipeline = TRAIN
    if name == "opencv":
        pipeline = transforms.Compose([transforms.ToPILImage(), *TRAIN.transforms])
    expected = [
        images for images, _ in DataLoader(ImageList(files, range(NUM), TRAIN), 5, shuffle=True, seed=3)
    ]
    loader = DataLoader(case.make(files, pipeline), 5, shuffle=True, seed=3)
    assert loader.explain().lifted
    found = [image_of(batch, case) for batch in loader]
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_the_page_has_this_table() -> None:
    page = (ROOT / "docs" / "lifting.md").read_text(encoding="utf-8")
    for case in CASES.values():
        reason = case.lifts or ""
        assert f"| {case.what} | {'yes' if case.lifts is None else 'no'} | {reason} |" in page
    assert page.count("| yes | |") + page.count("| yes |  |") == sum(
        case.lifts is None for case in CASES.values()
    )
