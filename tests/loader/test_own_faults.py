"""Data sets whose later samples break a condition of lifting, and what else may happen to them."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import logging
import pickle
import random
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, random_split
from torchvision import transforms, tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from fastpipe import ArgumentError, DataLoader, LiftError, LiftWarning, augment
from fastpipe.batch.own.flat import flat_copy
from fastpipe.batch.own.handed import Handed, Used, pixels_of

NUM, BATCH, BAD = 20, 4, 9  # the bad sample is in batch 2
TAIL = [transforms.ToTensor(), transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))]
TRAIN = transforms.Compose([transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), *TAIL])
EVAL = transforms.Compose([transforms.Resize((16, 16)), *TAIL])


class Pictures(Dataset):
    """Pictures from memory; `misbehave(self, image, label)` makes sample BAD."""

    def __init__(self, transform=TRAIN, misbehave=None):
        self.pixels = np.random.default_rng(0).integers(0, 255, (NUM, 24, 28, 3), dtype=np.uint8)
        self.transform = transform
        self.misbehave = misbehave
        self.kept = None

    def __len__(self):
        return NUM

    def picture(self, index):
        return Image.fromarray(self.pixels[index])

    def __getitem__(self, index):
        if index == BAD and self.misbehave is not None:
            return self.misbehave(self, self.picture(index), index)
        return self.transform(self.picture(index)), index


def uses(self, image, label):
    return self.transform(image) * 1.0, label


def twice(self, image, label):
    self.transform(image)
    return self.transform(image), label


def never(self, image, label):
    return torch.zeros(3, 16, 16), label


def another(self, image, label):
    self.transform(image)
    return torch.zeros(3, 16, 16), label


def grey(self, image, label):
    try:
        return self.transform(image.convert("L")), label
    except Exception:
        return torch.zeros(3, 16, 16), label


def elsewhere(self, image, label):
    return label, self.transform(image)


def by_name(self, image, label):
    return self.transform(img=image), label


def draws(self, image, label):
    return self.transform(image), random.randint(0, 9)


def seeds(self, image, label):
    torch.manual_seed(1)
    return self.transform(image), label


def sets_an_attribute(self, image, label):
    self.pixels = self.pixels.copy()
    return self.transform(image), label


def hidden(self, image, label):
    """An exception that the script swallows is seen all the same."""
    found = self.transform(image)
    try:
        label += int(found.shape[0] == 4)
    except AttributeError:
        label = -1
    return found, label


def by_class(self, image, label):
    found = self.transform(image)
    return found, label if isinstance(found, torch.Tensor) else -1


FAULTS = {
    uses: "uses 'mul' on the image that its transform returned",
    twice: "calls its transform more than once",
    never: "does not call its transform",
    another: "does not return the image that its transform returned",
    grey: "gives its transform a PIL image of mode L, and not an RGB PIL image",
    by_name: "calls its transform with named arguments",
    draws: "draws from, or seeds, a global generator, and so does its transform",
    seeds: "draws from, or seeds, a global generator, and so does its transform",
    sets_an_attribute: "has changed its attribute 'pixels', so a sample may not be made twice",
    hidden: "reads 'shape' of the image that its transform returned",
    by_class: "reads '__class__' of the image that its transform returned",
}


def batches(dataset: Any, workers: int = 0, **options: Any) -> list[Any]:
    return list(DataLoader(dataset, BATCH, num_workers=workers, **{"seed": 7, **options}))


def equal(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for (images, labels), (others, expected) in zip(ours, theirs, strict=True):
        assert torch.equal(images, others) and torch.equal(labels, expected)


@pytest.mark.parametrize("misbehave", FAULTS, ids=lambda function: function.__name__)
def test_from_the_batch_of_a_broken_condition_on_nothing_is_lifted(misbehave: Any) -> None:
    dataset = Pictures(misbehave=misbehave)
    loader = DataLoader(dataset, BATCH, seed=7)
    with pytest.warns(LiftWarning, match=f"batch 2 of epoch 0: at sample {BAD} the data set") as said:
        found = list(loader)
    assert len(said) == 1 and FAULTS[misbehave] in str(said[0].message)
    place = BAD // BATCH
    equal(found[:place], batches(Pictures())[:place])
    equal(found[place:], batches(Pictures(misbehave=misbehave), backend="torch")[place:])
    assert FAULTS[misbehave] in loader.explain().reason
    equal(list(loader), list(_second_epoch(Pictures(misbehave=misbehave))))


def _second_epoch(dataset: Any) -> Any:
    loader = DataLoader(dataset, BATCH, seed=7, backend="torch")
    loader.set_epoch(1)
    return loader


def test_an_error_of_the_unlifted_batch_is_torchs() -> None:
    with pytest.warns(LiftWarning, match="a sample of another form"), pytest.raises(TypeError) as ours:
        batches(Pictures(misbehave=elsewhere))
    with pytest.raises(TypeError) as theirs:
        batches(Pictures(misbehave=elsewhere), backend="torch")
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("misbehave", [uses, hidden, seeds], ids=lambda function: function.__name__)
@pytest.mark.parametrize("options", [{}, {"persistent_workers": True}, {"prefetch_factor": 4}], ids=str)
def test_worker_processes_end_lifting_at_the_same_batch(misbehave: Any, options: Any) -> None:
    """Also what other workers had made ahead is made anew."""
    with pytest.warns(LiftWarning):
        expected = batches(Pictures(misbehave=misbehave))
    with pytest.warns(LiftWarning) as said:
        found = batches(Pictures(misbehave=misbehave), 2, **options)
    assert len(said) == 1
    equal(found, expected)


def test_strict_lift_raises_at_the_sample_and_at_the_start() -> None:
    loader = iter(DataLoader(Pictures(misbehave=uses), BATCH, strict_lift=True))
    next(loader), next(loader)
    with pytest.raises(LiftError, match=f"at sample {BAD} the data set uses 'mul'"):
        next(loader)
    with pytest.raises(LiftError, match=r"nothing is lifted: .* it calls its transform more than once"):
        iter(DataLoader(Twice(), BATCH, strict_lift=True))


class Twice(Pictures):
    def __getitem__(self, index):
        return twice(self, self.picture(index), index)


def test_what_only_lifting_gives_is_an_error_once_lifting_ends() -> None:
    loader = iter(DataLoader(Pictures(misbehave=uses), BATCH, dtype=torch.float16))
    next(loader), next(loader)
    with pytest.raises(ArgumentError, match=rf"dtype cannot be honoured.*at sample {BAD}"):
        next(loader)


def keeps(self, image, label):
    found = self.transform(image)
    STORE.append(found)
    return found, label


STORE: list[Any] = []


def test_an_image_that_is_kept_is_seen() -> None:
    """Without worker processes the list is the script's own, which would return it later."""
    with pytest.raises(LiftError, match=f"at sample {BAD} the data set keeps the image"):
        batches(Pictures(misbehave=keeps))
    STORE.clear()
    with pytest.warns(LiftWarning, match="keeps the image"):
        found = batches(Pictures(misbehave=keeps), 2)
    assert not STORE and len(found) == NUM // BATCH


@pytest.mark.parametrize("workers", [0, 2])
def test_without_seed_later_batches_are_drawn_by_their_keys(workers: int) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(11)
        with pytest.warns(LiftWarning):
            runs.append(batches(Pictures(misbehave=uses), workers, seed=None))
    equal(*runs)
    assert not torch.equal(runs[0][2][0], runs[0][3][0])


def broken_file(self, image, label):
    raise OSError("image file is truncated")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_the_data_sets_own_error(workers: int) -> None:
    dataset = Pictures(misbehave=broken_file)
    loader = iter(DataLoader(dataset, BATCH, num_workers=workers, seed=7))
    next(loader), next(loader)
    with pytest.raises(OSError, match="truncated"):
        next(loader)
    equal([next(loader)], batches(Pictures())[3:4])
    skipping = DataLoader(dataset, BATCH, num_workers=workers, seed=7, on_error="skip")
    found = list(skipping)
    assert skipping.explain().lifted and skipping.stats().skipped == 1
    assert [label for _, labels in found for label in labels.tolist()] == [i for i in range(NUM) if i != BAD]
    with pytest.raises(ArgumentError, match=r"on_error='replace' cannot be honoured.*class of a sample"):
        iter(DataLoader(dataset, BATCH, on_error="replace"))


# ---- the script's objects stay as they are


def test_the_scripts_data_set_is_not_changed() -> None:
    dataset = Pictures()
    before = dict(vars(dataset)), pickle.dumps(dataset)
    loader = DataLoader(dataset, BATCH)
    list(loader), loader.explain()
    assert loader.dataset is dataset and dataset.transform is TRAIN
    assert all(value is before[0][name] for name, value in vars(dataset).items())
    assert pickle.dumps(dataset) == before[1]
    assert isinstance(dataset[0][0], torch.Tensor)


def test_two_splits_share_one_data_set() -> None:
    dataset = Pictures(EVAL)
    train, val = random_split(dataset, [12, 8], torch.Generator().manual_seed(0))
    loaders = [DataLoader(part, BATCH) for part in (train, val)]
    assert all(loader.explain().lifted for loader in loaders)
    for both in zip(*loaders, strict=False):  # at the same time
        for images, labels in both:
            assert torch.equal(images, torch.stack([dataset[i][0] for i in labels.tolist()]))


def test_parts_with_one_pipeline_are_lifted_and_parts_with_two_are_not() -> None:
    one = ConcatDataset([Subset(Pictures(EVAL), [3, 1, 2]), Pictures(EVAL)])
    loader = DataLoader(one, 5)
    assert loader.explain().lifted
    equal(list(loader), list(DataLoader(one, 5, backend="torch")))
    two = ConcatDataset([Pictures(EVAL), Pictures(copy.deepcopy(EVAL))])
    assert "its samples use different pipelines" in DataLoader(two, 5).explain().reason


class Counting(Pictures):
    """Counts in a place that no copy has of its own."""

    asked: list[int] = []  # noqa: RUF012

    def __getitem__(self, index):
        self.asked.append(index)
        return super().__getitem__(index)


def test_each_sample_is_made_once_an_epoch_and_the_trial_makes_four() -> None:
    Counting.asked.clear()
    loader = DataLoader(Counting(), BATCH)
    for _ in range(2):
        list(loader)
        loader.state_dict(), loader.explain()
    assert Counting.asked == [0, 0, 0, NUM - 1, *range(NUM), *range(NUM)]


class CachedByClass(Pictures):
    """Keeps its samples where no copy has a place of its own."""

    cache: dict[int, Any] = {}  # noqa: RUF012

    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = super().__getitem__(index)
        return self.cache[index]


def test_a_cache_outside_the_data_set_is_seen_and_holds_nothing_of_ours() -> None:
    CachedByClass.cache.clear()
    loader = DataLoader(CachedByClass(EVAL), BATCH)
    assert "it keeps the image that its transform returned" in loader.explain().reason
    equal(list(loader), batches(Pictures(EVAL), backend="torch"))
    assert all(isinstance(image, torch.Tensor) for image, _ in CachedByClass.cache.values())


def test_an_attribute_that_the_script_sets_is_seen() -> None:
    dataset = Pictures(EVAL)
    loader = DataLoader(dataset, NUM)
    ((first, _),) = loader
    batches_of = iter(loader)
    dataset.pixels = 255 - dataset.pixels  # before the only batch is made, without worker processes
    ((images, _),) = batches_of
    assert not torch.equal(first, images)
    assert torch.equal(images, torch.stack([dataset[i][0] for i in range(NUM)]))
    dataset.transform = None
    assert "none of its attributes holds" in loader.explain().reason
    dataset.transform, dataset.misbehave = TRAIN, uses
    assert loader.explain().lifted


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_continues_where_it_was(workers: int, stop: int) -> None:
    """Before the bad sample's batch and after it: what is lifted in one run is lifted in the other."""
    with pytest.warns(LiftWarning):
        expected = batches(Pictures(misbehave=uses))
    loader = DataLoader(Pictures(misbehave=uses), BATCH, num_workers=workers, seed=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LiftWarning)
        iterator = iter(loader)
        for _ in range(stop):
            next(iterator)
        state = loader.state_dict()
        assert state["resumable"] and (state["unlifted"] is not None) == (stop == 3)
        resumed = DataLoader(Pictures(misbehave=uses), BATCH, seed=7)
        resumed.load_state_dict(state)
        equal(list(resumed), expected[stop:])


# ---- forms, additions


def test_mixup_in_collate_and_in_augment() -> None:
    mix = v2.MixUp(alpha=0.3, num_classes=NUM)

    def collate(batch):
        return mix(*torch.utils.data.default_collate(batch))

    mixed = DataLoader(Pictures(), BATCH, seed=1, collate_fn=collate)
    assert mixed.explain().lifted
    _, labels = next(iter(mixed))
    assert labels.shape == (BATCH, NUM) and torch.allclose(labels.sum(1), torch.ones(BATCH))
    added = DataLoader(Pictures(), BATCH, seed=1, augment=[augment.MixUp(alpha=0.3)], num_classes=NUM)
    batch = next(iter(added))
    assert batch.hard_labels.tolist() == [0, 1, 2, 3] and batch[1].shape == (BATCH, NUM)
    with pytest.raises(ArgumentError, match=r"samples of the form \(image, label\)"):
        iter(DataLoader(Turned(), BATCH, augment=[augment.MixUp(alpha=0.3)], num_classes=NUM))
    with pytest.raises(ArgumentError, match="engine must be"):
        iter(DataLoader(Turned(), BATCH, engine="none"))


class Drawn(Pictures):
    """Draws which picture a sample is."""

    def __getitem__(self, index):
        number = random.randrange(NUM)
        return self.transform(self.picture(number)), number


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("added", [augment.RandAugment(), augment.MixUp(alpha=0.3)], ids=["policy", "mix"])
def test_a_data_set_that_draws_may_be_augmented(added: Any, workers: int) -> None:
    """The steps of `augment` draw from streams of their own, so the data set's numbers stay what they are."""

    def numbers(**options: Any) -> list[list[int]]:
        random.seed(3)
        torch.manual_seed(3)
        loader = DataLoader(Drawn(EVAL), BATCH, num_workers=workers, num_classes=NUM, **options)
        assert loader.explain().lifted
        return [getattr(batch, "hard_labels", batch[1]).tolist() for batch in loader]

    assert numbers(augment=[added]) == numbers()


def test_draws_beside_those_of_collate_end_lifting() -> None:
    mix = v2.MixUp(alpha=0.3, num_classes=NUM)

    def collate(batch):
        return mix(*torch.utils.data.default_collate(batch))

    explained = DataLoader(Drawn(EVAL), BATCH, collate_fn=collate).explain()
    assert not explained.lifted and "and collate_fn draws too" in explained.reason
    late = Pictures(EVAL, lambda self, image, label: (self.transform(image), random.randrange(NUM)))
    with pytest.warns(LiftWarning, match="global generator, and so does collate_fn"):
        assert len(list(DataLoader(late, BATCH, collate_fn=collate))) == NUM // BATCH


class Turned(Pictures):
    def __getitem__(self, index):
        return super().__getitem__(index)[::-1]


class WithBoxes(Pictures):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, tv_tensors.Mask(torch.zeros(16, 16)), label


def test_what_would_move_masks_may_not_be_added() -> None:
    with pytest.raises(ArgumentError, match=r"must move no pixels.*ColOut"):
        iter(DataLoader(WithBoxes(), BATCH, augment=[augment.ColOut()]))


def test_photometric_steps_of_a_joint_pipeline_draw_what_they_draw_without_lifting() -> None:
    jitter = v2.Compose([v2.ColorJitter(0.4, 0.4), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    loader = DataLoader(Jointly(jitter), BATCH, seed=2)
    assert loader.explain().lifted
    found, expected = list(loader), list(DataLoader(Jointly(jitter), BATCH, seed=2, backend="torch"))
    for (images, masks), (others, expected_masks) in zip(found, expected, strict=True):
        assert torch.equal(images, others) and torch.equal(masks, expected_masks)


class Jointly(Pictures):
    def __getitem__(self, index):
        return self.transform(self.picture(index), tv_tensors.Mask(torch.full((4, 4), index)))


def test_other_backends_do_not_take_it() -> None:
    loader = DataLoader(Pictures(EVAL), BATCH, backend="turbo")
    assert "the backend turbo decodes files" in loader.explain().reason
    equal(list(loader), list(DataLoader(Pictures(EVAL), BATCH, backend="torch")))


def test_large_arrays_are_not_copied() -> None:
    dataset = Pictures()
    dataset.large = np.empty(300 << 20, dtype=np.uint8)
    assert "its arrays and modules take 300 MiB" in DataLoader(dataset, BATCH).explain().reason


def test_worker_init_fn_sees_and_sets_the_scripts_data_set() -> None:
    def init(worker: int) -> None:
        dataset = torch.utils.data.get_worker_info().dataset
        assert type(dataset) is Pictures
        dataset.pixels = np.zeros_like(dataset.pixels)

    loader = DataLoader(Pictures(EVAL), BATCH, num_workers=2, worker_init_fn=init)
    assert loader.explain().lifted
    for images, _ in loader:
        assert len(images.unique()) == 3  # black, normalised by channel


def test_a_handed_image_can_only_be_passed_on() -> None:
    uses: list[str] = []
    handed = Handed(np.zeros((1, 1, 3), dtype=np.uint8), uses)
    assert handed is not None and pixels_of(handed).shape == (1, 1, 3) and not uses
    attempts = [
        *(len, iter, bool, repr, str, hash, float, list, copy.copy, copy.deepcopy, pickle.dumps, np.asarray),
        *(torch.as_tensor, lambda it: it + 1, lambda it: 1 + it, lambda it: it == it, lambda it: it[0]),
        *(lambda it: isinstance(it, torch.Tensor), lambda it: hasattr(it, "shape"), lambda it: it @ it),
        *(lambda it: setattr(it, "label", 1), lambda it: torch.stack([it]), lambda it: f"{it}", vars),
    ]
    for attempt in attempts:
        uses.clear()
        with contextlib.suppress(Used, TypeError, RuntimeError, ValueError, copy.Error):
            attempt(handed)
        assert uses, attempt


@pytest.mark.slow
def test_spawned_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np, torch
            from PIL import Image
            from torch.utils.data import Dataset
            from torchvision import transforms
            from fastpipe import DataLoader

            class Pictures(Dataset):
                def __init__(self):
                    self.transform = transforms.Compose([transforms.RandomCrop(8), transforms.ToTensor()])
                def __len__(self):
                    return 8
                def __getitem__(self, index):
                    pixels = np.random.default_rng(index).integers(0, 255, (12, 12, 3), dtype=np.uint8)
                    return self.transform(Image.fromarray(pixels)), index

            if __name__ == "__main__":
                here = list(DataLoader(Pictures(), 4, seed=1))
                loader = DataLoader(Pictures(), 4, seed=1, num_workers=1, multiprocessing_context="spawn")
                assert loader.explain().lifted
                for (a, b), (c, d) in zip(here, loader, strict=True):
                    assert torch.equal(a, c) and torch.equal(b, d)
                print("equal")
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200)
    assert done.stdout == "equal\n", done.stderr


# ---- a copy must not run the script's __del__

GONE: list[str] = []


class Handle:
    """Its `__del__` ends something that a copy has in common with it."""

    def __del__(self):
        GONE.append("handle")


class Ends(Pictures):
    def __del__(self):
        GONE.append("data set")


class EndsByItsBase(Ends):
    pass


class Slotted:
    __slots__ = ("inner",)


def holding(handle: Any) -> Pictures:
    dataset = Pictures(EVAL)
    slotted = Slotted()
    slotted.inner = {"handles": (None, handle)}
    dataset.held = [{"deep": slotted}]
    return dataset


class Step:
    """A script's own step, which holds one, too."""

    def __init__(self):
        self.handle = Handle()

    def __call__(self, image):
        return image


ENDING = {
    "its own": (lambda: Ends(EVAL), "Ends"),
    "of its base": (lambda: EndsByItsBase(EVAL), "EndsByItsBase"),
    "deep inside": (lambda: holding(Handle()), "Handle"),
    "of a wrapped one": (lambda: Subset(Ends(EVAL), range(NUM)), "Ends"),
    "of a step": (lambda: Pictures(transforms.Compose([Step(), *EVAL.transforms])), "Handle"),
}


@pytest.mark.parametrize("case", ENDING)
@pytest.mark.parametrize("workers", [0, 2])
def test_no_copy_runs_the_scripts_del(case: str, workers: int) -> None:
    make, name = ENDING[case]
    dataset = make()
    gc.collect()
    GONE.clear()
    loader = DataLoader(dataset, BATCH, num_workers=workers, seed=7)
    assert f"its {name} has a __del__" in loader.explain().reason
    found = list(loader)
    loader.preview(2)
    gc.collect()
    assert not GONE
    equal(found, list(DataLoader(dataset, BATCH, seed=7, backend="torch")))


def test_a_folders_own_step_with_a_del_is_not_tried_on_a_copy(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "a" / "0.png")
    transform = transforms.Compose([transforms.Resize((16, 16)), Step(), *TAIL])
    GONE.clear()
    loader = DataLoader(ImageFolder(tmp_path, transform), 1)
    assert "Handle has a __del__" in str(loader.explain())
    assert len(list(loader)) == 1 and not GONE


def test_what_a_deep_copy_shares_is_not_looked_into() -> None:
    """A logger leads to all handlers of a program, a class or function to its module."""
    dataset = Pictures(EVAL)
    dataset.log, dataset.kind, dataset.function = logging.getLogger("own"), Handle, holding
    dataset.cached = functools.lru_cache(lambda: Handle())
    dataset.cached()
    assert DataLoader(dataset, BATCH).explain().lifted


@pytest.mark.parametrize("again", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copied_loader_knows_that_lifting_has_ended(again: Any) -> None:
    loader = DataLoader(Pictures(misbehave=uses), BATCH, seed=7)
    with pytest.warns(LiftWarning):
        list(loader)
    other = again(loader)
    assert not other.explain().lifted and other.explain().reason == loader.explain().reason
    assert other.state_dict()["unlifted"] == loader.state_dict()["unlifted"]
    equal(list(other), list(loader))
    other.dataset.transform = EVAL  # another pipeline is another proof
    assert other.explain().lifted


# ---- what a data set calls `classes`


def named(classes: Any) -> Pictures:
    return type("Named", (Pictures,), {"classes": classes})()


def not_yet(self: Any) -> Any:
    raise RuntimeError("call load() first")


NO_NAMES = {
    "None": None,
    "a number": 10,
    "a tensor": torch.tensor(3),
    "a method": lambda self: ["a", "b"],
    "a property that raises": property(not_yet),
    "a text": "abc",
}


@pytest.mark.parametrize("case", NO_NAMES)
def test_classes_that_are_no_names_are_none(case: str) -> None:
    loader = DataLoader(named(NO_NAMES[case]), BATCH, seed=7)
    assert loader.explain().lifted
    equal(list(loader), batches(Pictures()))
    loader.preview(2)
    with pytest.raises(ArgumentError, match="num_classes must be given"):
        iter(DataLoader(named(NO_NAMES[case]), BATCH, seed=7, augment=[augment.MixUp(alpha=0.3)]))


@pytest.mark.parametrize("names", [np.array(list("abc")), {0: "a", 1: "b", 2: "c"}, ("a", "b", "c")], ids=str)
def test_arrays_and_dicts_of_names_are_counted(names: Any, tmp_path: Path) -> None:
    """A folder's too, whose names a script may replace."""
    for name in "abc":
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / name / "0.png")
    folder = ImageFolder(tmp_path, TRAIN)
    folder.classes = names
    by_own = type("Named", (ImageFolder,), {"__getitem__": lambda self, i: ImageFolder.__getitem__(self, i)})
    own = by_own(tmp_path, TRAIN)
    own.classes = names
    for dataset in (folder, own):
        loader = DataLoader(dataset, 3, seed=1, augment=[augment.MixUp(alpha=0.3)])
        assert next(iter(loader))[1].shape == (3, 3)
        assert DataLoader(dataset, 3, seed=1).preview(1).rows[0].label in "abc"


# ---- records


class Record(NamedTuple):
    name: str
    label: int


RECORDS = {
    "namedtuples": [Record(str(i), np.int64(i)) for i in range(NUM)],
    "dicts": [{"name": str(i), "label": i, "score": float("nan")} for i in range(NUM)],
    "dicts by name": {str(i): {"label": i} for i in range(NUM)},
    "tuples": [(str(i), i) for i in range(NUM)],
}


class Recorded(Pictures):
    """Writes into a record at the first sample."""

    def __init__(self, records, *, writes):
        super().__init__()
        self.records, self.writes = records, writes

    def __getitem__(self, index):
        if self.writes:
            record = self.records["0"] if isinstance(self.records, dict) else self.records[0]
            record["seen"] = index
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("form", "writes"), [*((form, False) for form in RECORDS), ("dicts", True), ("dicts by name", True)]
)
def test_records_are_copied_and_compared_as_a_whole(
    form: str, writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not pickled one by one, which takes 20 s for a million; and what is written into one is seen."""
    records = RECORDS[form]
    dumped: list[Any] = []
    monkeypatch.setattr("fastpipe.batch.own.isolated.pickle.dumps", lambda value: dumped.append(value))
    before = copy.deepcopy(records)
    explained = DataLoader(Recorded(records, writes=writes), BATCH).explain()
    assert explained.lifted == (not writes) and not any(type(value) in (list, dict) for value in dumped)
    assert writes == ("changes the attribute 'records'" in explained.reason)
    assert str(records) == str(before)


class Remembering(Record):
    """A namedtuple with attributes, which may change."""


def test_records_with_attributes_are_looked_into() -> None:
    assert flat_copy([Remembering("a", 1)]) is None
    assert flat_copy([["a", 1]]) is None and flat_copy([{"a": [1]}]) is None
    original = [{"a": 1}]
    assert flat_copy(original) == original and flat_copy(original)[0] is not original[0]
