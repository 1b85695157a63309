"""Drop-in means drop-in: torch's constructor, errors, attributes, order and batches."""

import inspect
import random
from collections import Counter

import numpy as np
import pytest
import torch
import torch.utils.data
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset, default_collate
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional, v2

import fastpipe
from fastpipe import ArgumentError, DataLoader, FolderDataset
from fastpipe.decode import draw_box
from fastpipe.rng import Stream, uniforms
from fastpipe.transforms.specs import RandomResizedCrop

TorchLoader = torch.utils.data.DataLoader
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TAIL = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])
EVAL = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), *TAIL])


def _ids_as_labels(root, transform=TRAIN):
    """An image folder whose labels are the sample ids, so that batches tell the order."""
    dataset = ImageFolder(str(root), transform)
    dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)]
    return dataset


def _labels(loader):
    return [labels.tolist() for _, labels in loader]


def test_the_constructor_begins_with_torchs_arguments():
    theirs = inspect.signature(TorchLoader.__init__).parameters
    ours = inspect.signature(DataLoader.__init__).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind, name
        assert ours[name].default == parameter.default, name


ERRORS = [
    (dict(num_workers=-1), ValueError),
    (dict(timeout=-1), ValueError),
    (dict(prefetch_factor=2), ValueError),
    (dict(num_workers=1, prefetch_factor=-2), ValueError),
    (dict(persistent_workers=True), ValueError),
    (dict(multiprocessing_context="fork"), ValueError),
    (dict(num_workers=1, multiprocessing_context="no such"), ValueError),
    (dict(num_workers=1, multiprocessing_context=3), TypeError),
    (dict(shuffle=True, sampler=[0]), ValueError),
    (dict(batch_sampler=[[0]], batch_size=2), ValueError),
    (dict(batch_sampler=[[0]], shuffle=True), ValueError),
    (dict(batch_sampler=[[0]], drop_last=True), ValueError),
    (dict(batch_size=None, drop_last=True), ValueError),
    (dict(batch_size=0), ValueError),
]


@pytest.mark.parametrize(("options", "error"), ERRORS, ids=lambda value: str(value))
def test_bad_arguments_raise_torchs_errors(photos, options, error):
    dataset = ImageFolder(str(photos), TRAIN)
    with pytest.raises(error) as theirs:
        TorchLoader(dataset, **options)
    with pytest.raises(error) as ours:
        DataLoader(dataset, **options)
    assert str(ours.value) == str(theirs.value)


def test_public_attributes_are_torchs(photos):
    dataset = ImageFolder(str(photos), TRAIN)
    options = dict(batch_size=4, shuffle=True, num_workers=1, drop_last=True, timeout=3, prefetch_factor=5)
    ours, theirs = DataLoader(dataset, **options), TorchLoader(dataset, **options)
    ignored = {"sampler", "batch_sampler"}
    for name, value in vars(theirs).items():
        if name not in ignored:
            assert getattr(ours, name) == value or getattr(ours, name) is value, name
    assert ours.dataset is dataset
    assert type(ours.sampler) is type(theirs.sampler)
    assert type(ours.batch_sampler) is type(theirs.batch_sampler)
    assert ours._iterator is None
    assert len(ours) == len(theirs) == 6
    with pytest.raises(ValueError, match="should not be set after"):
        ours.batch_size = 3


def test_rebuilding_from_attributes_gives_the_same_loader(photos):
    """What Lightning does: the class again, by signature, from public attributes."""
    options = dict(batch_size=5, num_workers=0, seed=4, backend="auto", dtype=torch.float16, resolution=24)
    first = DataLoader(photos, transform=TRAIN, shuffle=True, **options)
    names = [name for name in inspect.signature(DataLoader.__init__).parameters if name != "self"]
    attributes = {name: getattr(first, name) for name in names if name not in {"shuffle", "batch_sampler"}}
    assert {name: attributes[name] for name in options} == options
    again = DataLoader(**attributes)
    for (a, x), (b, y) in zip(first, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("own_generator", [False, True])
def test_order_without_seed_is_torchs_over_several_epochs(photos, workers, own_generator):
    """Same seeds, same draws from the generator: the loaders cannot be told apart by their order."""
    orders = []
    for cls in (TorchLoader, DataLoader):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5) if own_generator else None
        # Nothing random in the transform: with workers=0, torch's own would draw from the same generator.
        dataset = _ids_as_labels(photos, EVAL)
        loader = cls(dataset, 4, shuffle=True, num_workers=workers, generator=generator)
        orders.append([_labels(loader) for _ in range(3)] + [torch.rand(1).item()])
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]


def test_order_without_seed_is_torchs_with_persistent_workers_and_random_steps(photos):
    orders = []
    for cls in (TorchLoader, DataLoader):
        torch.manual_seed(3)
        loader = cls(_ids_as_labels(photos), 4, shuffle=True, num_workers=1, persistent_workers=True)
        orders.append([_labels(loader) for _ in range(3)] + [torch.rand(1).item()])
    assert orders[0] == orders[1]


SAMPLERS = {
    "weighted": lambda data: dict(sampler=torch.utils.data.WeightedRandomSampler([1.0] * len(data), 30)),
    "replacement": lambda data: dict(sampler=torch.utils.data.RandomSampler(data, True, 20)),
    "list": lambda data: dict(sampler=[5, 1, 1, 7]),
    "batches": lambda data: dict(batch_sampler=[[0, 3], [2], [9, 9, 9]], batch_size=1),
    "distributed": lambda data: dict(sampler=torch.utils.data.DistributedSampler(data, 2, 1)),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_ones_own_are_used_unchanged(photos, name):
    orders = []
    for cls in (TorchLoader, DataLoader):
        torch.manual_seed(1)
        dataset = _ids_as_labels(photos, EVAL)
        loader = cls(dataset, **{"batch_size": 3, **SAMPLERS[name](dataset)})
        orders.append([_labels(loader), _labels(loader), len(loader)])
    assert orders[0] == orders[1]


EVALS = {
    "v1": EVAL,
    "v1-uint8": transforms.Compose([transforms.Resize((30, 36)), transforms.PILToTensor()]),
    "v1-no-normalize": transforms.Compose([transforms.CenterCrop(24), transforms.ToTensor()]),
    "v2": v2.Compose(
        [
            v2.Resize(40),
            v2.CenterCrop(32),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    ),
    "unknown-step": transforms.Compose(
        [transforms.Resize(40), transforms.CenterCrop(32), transforms.Grayscale(3), *TAIL]
    ),
    "bicubic": transforms.Compose(
        [transforms.Resize(40, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32), *TAIL]
    ),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", EVALS)
def test_lifted_batches_have_the_bytes_of_torchs(photos, name, workers):
    dataset = ImageFolder(str(photos), EVALS[name])
    ours = DataLoader(dataset, 7, num_workers=workers)
    assert ours.explain().lifted, ours.explain().reason
    theirs = TorchLoader(dataset, 7, num_workers=workers)
    for mine, other in zip(ours, theirs, strict=True):
        assert type(mine) is type(other) is list
        for a, b in zip(mine, other, strict=True):
            assert (a.dtype, a.shape, type(a)) == (b.dtype, b.shape, type(b))
            assert a.stride() == b.stride()
            assert torch.equal(a, b)


def test_a_training_batch_is_torchvisions_steps_on_the_keyed_draws(photos):
    """Box and flip recomputed here from the key, then torchvision's functions: equal bytes."""
    dataset = ImageFolder(str(photos), TRAIN)
    loader = DataLoader(dataset, 8, shuffle=True, seed=6)
    loader.set_epoch(2)
    position, order = 0, fastpipe.rng.permutation(6, 2, len(dataset))
    tail = transforms.Compose(TAIL)
    flips = 0
    for images, labels in loader:
        ids = order[position : position + len(images)]
        zeros = np.zeros(len(ids), dtype=np.int64)
        crop = uniforms(6, 2, ids, zeros, Stream.CROP, 22)
        flip = uniforms(6, 2, ids, zeros, Stream.FLIP, 1)[:, 0] < 0.5
        for place, sample in enumerate(ids):
            path, label = dataset.samples[sample]
            image = dataset.loader(path)
            box = draw_box(RandomResizedCrop(size=(32, 32)), crop[place].tolist(), image.height, image.width)
            image = functional.resized_crop(image, box.top, box.left, box.height, box.width, [32, 32])
            image = functional.hflip(image) if flip[place] else image
            assert torch.equal(images[place], tail(image))
            assert labels[place] == label
        flips += int(flip.sum())
        position += len(ids)
    assert position == len(dataset)
    assert 0 < flips < len(dataset)


POLICY = transforms.Compose(
    [
        transforms.RandomResizedCrop(32),
        transforms.RandomHorizontalFlip(),
        transforms.RandAugment(),
        *TAIL,
        transforms.RandomErasing(),
    ]
)
JITTER = transforms.Compose(
    [
        transforms.RandomResizedCrop(32),
        transforms.ColorJitter(0.4, 0.4, 0.4),
        transforms.RandomHorizontalFlip(),
        *TAIL,
    ]
)


class Noisy(torch.utils.data.Dataset):
    """An arbitrary data set that draws from all three generators."""

    def __len__(self):
        return 23

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(2)


def _everything(loader):
    return [torch.as_tensor(part).double() for batch in loader for part in batch]


@pytest.mark.parametrize("kind", ["lifted", "policy", "host-steps", "arbitrary"])
def test_equal_bytes_for_any_number_of_workers(photos, kind):
    dataset = {
        "lifted": lambda: ImageFolder(str(photos), TRAIN),
        "policy": lambda: ImageFolder(str(photos), POLICY),
        "host-steps": lambda: ImageFolder(str(photos), JITTER),
        "arbitrary": Noisy,
    }[kind]()
    runs = []
    for workers in (0, 1, 3):
        with pytest.warns(UserWarning, match="suggested max") if workers == 3 else _silence():
            loader = DataLoader(dataset, 5, shuffle=True, num_workers=workers, seed=12)
            runs.append([_everything(loader) for _ in range(2)])
    for epoch in range(2):
        for other in runs[1:]:
            for a, b in zip(runs[0][epoch], other[epoch], strict=True):
                assert torch.equal(a, b)
    assert not all(torch.equal(a, b) for a, b in zip(*runs[0], strict=True)), "epochs must differ"


def _silence():
    import contextlib

    return contextlib.nullcontext()


def test_seeded_draws_leave_the_scripts_generators_alone(photos):
    for dataset in (ImageFolder(str(photos), JITTER), Noisy()):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        expected = random.random(), np.random.rand(), torch.rand(1).item()
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        iterator = iter(DataLoader(dataset, 5, seed=3))
        state = torch.get_rng_state()
        next(iterator)
        assert torch.equal(torch.get_rng_state(), state)
        assert (random.random(), np.random.rand()) == expected[:2]


def test_repeated_ids_get_draws_of_their_own(photos):
    dataset = _ids_as_labels(photos)
    images, labels = next(iter(DataLoader(dataset, 3, sampler=[4, 4, 4], seed=1)))
    assert labels.tolist() == [4, 4, 4]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])


def test_an_arbitrary_dataset_is_torchs_business():
    data = TensorDataset(torch.arange(10), torch.arange(10) * 2)
    torch.manual_seed(0)
    ours = list(DataLoader(data, 4, shuffle=True))
    torch.manual_seed(0)
    theirs = list(TorchLoader(data, 4, shuffle=True))
    assert all(
        torch.equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
    )
    explanation = DataLoader(data, 4).explain()
    assert not explanation.lifted
    assert "nothing lifted: TensorDataset is not an image folder" in str(explanation)
    ours, theirs = iter(DataLoader(data, 4)), iter(TorchLoader(data, 4))
    assert isinstance(ours, type(theirs))
    assert ours._profile_name == theirs._profile_name


def test_random_steps_of_un_lifted_pipelines_are_torchs_without_seed(photos):
    dataset = ImageFolder(str(photos), TRAIN)
    dataset.loader = lambda path: transforms.functional.to_pil_image(
        torch.full((3, 50, 60), 7, dtype=torch.uint8)
    )
    runs = []
    for cls in (TorchLoader, DataLoader):
        torch.manual_seed(8)
        runs.append(torch.cat([images for images, _ in cls(dataset, 6, shuffle=True)]))
    assert torch.equal(*runs)


class OwnGetitem(ImageFolder):
    def __getitem__(self, index):
        return super().__getitem__(index)


REFUSALS = {
    "own collate": (
        lambda root: dict(
            dataset=ImageFolder(str(root), TRAIN), collate_fn=lambda batch: default_collate(batch)
        ),
        "collate_fn",
    ),
    "own loader": (
        lambda root: dict(dataset=ImageFolder(str(root), TRAIN, loader=lambda path: None)),
        "loader of ImageFolder",
    ),
    "no batches": (
        lambda root: dict(dataset=ImageFolder(str(root), TRAIN), batch_size=None),
        "batch_size is None",
    ),
    "asked": (lambda root: dict(dataset=ImageFolder(str(root), TRAIN), backend="torch"), "asked for"),
    "mixed": (
        lambda root: dict(
            dataset=ConcatDataset([ImageFolder(str(root), TRAIN), ImageFolder(str(root), EVAL)])
        ),
        "different transforms",
    ),
    "equal, but of steps that nobody knows": (
        lambda root: dict(dataset=ConcatDataset([_with_own_step(root), _with_own_step(root)])),
        "different transforms",
    ),
}

# What differs from an image folder in its own code is lifted by proof: test_own_data_sets.py has more of it.
BY_PROOF = {
    "own __getitem__": lambda root: OwnGetitem(str(root), EVAL),
    "other targets": lambda root: ConcatDataset(
        [ImageFolder(str(root), EVAL), ImageFolder(str(root), EVAL, target_transform=lambda label: 7)]
    ),
    "own loader of a FolderDataset": lambda root: _with_own_loader(root),
}


@pytest.mark.parametrize("name", BY_PROOF)
def test_what_is_not_quite_an_image_folder_is_lifted_by_proof(photos, name):
    dataset = BY_PROOF[name](photos)
    loader = DataLoader(dataset, 9)
    assert "lifted by proof" in loader.explain().reason
    for ours, theirs in zip(loader, TorchLoader(dataset, 9), strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def _with_own_step(root):
    return ImageFolder(str(root), transforms.Compose([lambda image: image, *_built_apart().transforms]))


def _with_own_loader(root):
    dataset = FolderDataset(root, EVAL)
    dataset.loader = lambda path: Image.new("RGB", (40, 40))
    return dataset


def _built_apart(**crop):
    """A pipeline of its own at each call."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(24, **crop),
            transforms.RandomHorizontalFlip(),
            transforms.TrivialAugmentWide(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        ]
    )


def test_equal_transforms_that_were_built_apart_are_lifted(photos):
    apart = ConcatDataset([ImageFolder(str(photos), _built_apart()) for _ in range(3)])
    shared = _built_apart()
    together = ConcatDataset([ImageFolder(str(photos), shared) for _ in range(3)])
    loaders = [DataLoader(dataset, 8, seed=3) for dataset in (apart, together)]
    assert loaders[0].explain().lifted
    for ours, expected in zip(*loaders, strict=True):
        assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])
    parts = [ImageFolder(str(photos), _built_apart()), ImageFolder(str(photos), _built_apart(scale=(0.5, 1)))]
    assert "different transforms" in DataLoader(ConcatDataset(parts), 8).explain().reason


@pytest.mark.parametrize("kind", [ImageFolder, FolderDataset])
def test_a_pil_loader_that_the_script_replaced_is_used(photos, monkeypatch, kind):
    dataset = kind(str(photos), EVAL)
    assert DataLoader(dataset, 4).explain().lifted
    monkeypatch.setattr(
        "torchvision.datasets.folder.pil_loader", lambda path: Image.new("RGB", (64, 64), 255)
    )
    loader = DataLoader(dataset, 4)
    assert "lifted by proof" in loader.explain().reason
    ours, theirs = next(iter(loader))[0], next(iter(TorchLoader(dataset, 4)))[0]
    assert torch.equal(ours, theirs) and len(ours.unique()) <= 3


class _Columns:
    """As much of a Hugging Face data set as the loader looks at."""

    def set_transform(self, function):
        self.function = function

    def __len__(self):
        return 4


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [
        ([1, 2, 3], "apply it in the data set's __getitem__: list takes no transform"),
        (_Columns(), r"dataset.set_transform\(...\)"),
    ],
)
def test_the_advice_on_transform_can_be_followed(dataset, advice):
    with pytest.raises(ArgumentError, match=advice):
        DataLoader(dataset, 2, transform=EVAL)


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_not_lifted_says_why(photos, name):
    make, reason = REFUSALS[name]
    explanation = DataLoader(**make(photos)).explain()
    assert not explanation.lifted
    assert reason in explanation.reason


def test_lifting_never_touches_the_dataset_and_is_read_at_each_iter(photos):
    dataset = ImageFolder(str(photos), EVAL)
    loader = DataLoader(dataset, 4)
    shapes = {next(iter(loader))[0].shape}
    assert dataset.transform is EVAL
    dataset.transform = transforms.Compose([transforms.CenterCrop(20), transforms.ToTensor()])
    shapes.add(next(iter(loader))[0].shape)
    assert shapes == {(4, 3, 32, 32), (4, 3, 20, 20)}


def test_subset_and_concat_are_lifted(photos):
    dataset = _ids_as_labels(photos, EVAL)
    both = ConcatDataset([Subset(dataset, [7, 3, 3]), Subset(Subset(dataset, range(5, 15)), [0, 9])])
    ours = DataLoader(both, 2)
    assert ours.explain().lifted
    assert _labels(ours) == _labels(TorchLoader(both, 2)) == [[7, 3], [3, 5], [14]]


def test_target_transform_and_worker_init_run_in_the_workers(photos):
    def init(worker_id):
        info = torch.utils.data.get_worker_info()
        info.dataset.marker = 100 * (worker_id + 1)

    dataset = ImageFolder(str(photos), EVAL)
    dataset.target_transform = lambda label: label + getattr(dataset, "marker", 0)
    labels = _labels(DataLoader(dataset, 4, num_workers=1, worker_init_fn=init))
    assert labels == _labels(TorchLoader(dataset, 4, num_workers=1, worker_init_fn=init))
    assert min(map(min, labels)) == 100
    assert not hasattr(dataset, "marker")


def test_labels_that_are_no_integers_are_collated_as_torch_does(photos):
    dataset = ImageFolder(str(photos), EVAL, target_transform=lambda label: torch.tensor([label, 1.5]))
    ours, theirs = next(iter(DataLoader(dataset, 4))), next(iter(TorchLoader(dataset, 4)))
    assert torch.equal(ours[1], theirs[1])


def test_a_path_needs_a_transform_and_a_dataset_brings_its_own(photos):
    loader = DataLoader(photos, 4, transform=EVAL)
    assert isinstance(loader.dataset, FolderDataset)
    theirs = next(iter(TorchLoader(ImageFolder(str(photos), EVAL), 4)))
    assert torch.equal(next(iter(loader))[0], theirs[0])
    with pytest.raises(ArgumentError, match="transform must be given with a path"):
        DataLoader(photos)
    with pytest.raises(ArgumentError, match="transform must only be given with a path"):
        DataLoader(ImageFolder(str(photos)), transform=EVAL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(backend="ffvc"), "backend must be one of 'auto', 'torch', 'torchvision'"),
        (dict(engine="fast"), "engine must be one of"),
        (dict(numerics="close"), "numerics must be one of"),
        (dict(engine="dali"), "engine must be one of 'fused'.* backend='dali' to decode with DALI"),
        (dict(dtype=torch.float64), "dtype must be one of"),
        (dict(memory_format=torch.preserve_format), "memory_format must be one of"),
        (dict(on_error="ignore"), "on_error must be one of"),
        (dict(seed=-3), "seed must be an integer"),
        (dict(resolution=0), "resolution must be an int >= 1"),
    ],
    ids=lambda value: str(value),
)
def test_our_own_arguments_name_what_is_allowed_and_found(photos, options, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        DataLoader(photos, transform=EVAL, **options)
    assert "Found: " in str(caught.value)


def test_what_cannot_be_honoured_without_lifting_is_refused(photos):
    loader = DataLoader(TensorDataset(torch.arange(4)), resolution=32, dtype=torch.float16)
    with pytest.raises(ArgumentError, match=r"resolution, dtype cannot be honoured.*not an image folder"):
        iter(loader)


def test_a_delivered_batch_is_the_consumers(photos):
    loader = DataLoader(ImageFolder(str(photos), TRAIN), 4, num_workers=2, seed=1)
    kept, copies = [], []
    for images, _ in loader:
        kept.append(images)
        copies.append(images.clone())
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_early_break_two_iterators_and_a_second_epoch(photos):
    loader = DataLoader(_ids_as_labels(photos), 4, shuffle=True, num_workers=1, seed=1)
    for _ in loader:
        break
    a, b = iter(loader), iter(loader)
    pairs = [(next(a)[1].tolist(), next(b)[1].tolist()) for _ in range(3)]
    assert all(x != y for x, y in pairs), "two iter() calls are two epochs"
    del a, b
    counts = Counter(label for labels in _labels(loader) for label in labels)
    assert counts == Counter(range(24))


def test_half_precision_and_channels_last_on_request(photos):
    loader = DataLoader(photos, 4, transform=EVAL, dtype=torch.bfloat16, memory_format=torch.channels_last)
    images, _ = next(iter(loader))
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last)
    expected = next(iter(DataLoader(photos, 4, transform=EVAL)))[0].bfloat16()
    assert torch.equal(images, expected)


def test_augment_adds_to_the_lifted_plan(photos):
    plain = next(iter(DataLoader(photos, 24, transform=EVAL, seed=1)))[0]
    flipped = next(
        iter(DataLoader(photos, 24, transform=EVAL, seed=1, augment=[fastpipe.augment.HorizontalFlip(p=1.0)]))
    )[0]
    assert torch.equal(flipped, plain.flip(3))
    with pytest.raises(ArgumentError, match="HorizontalFlip"):
        iter(DataLoader(photos, 24, transform=TRAIN, augment=[fastpipe.augment.HorizontalFlip(p=1.0)]))


def test_profilers_find_the_label_they_look_for(photos):
    loader = DataLoader(photos, 24, transform=EVAL)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        list(loader)
    assert any(event.key.startswith("enumerate(DataLoader)#") for event in profile.key_averages())
