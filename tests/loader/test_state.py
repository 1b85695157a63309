"""Epochs, resolution, and continuing with exactly the next sample."""

import io
import time

import pytest
import torch
import torch.utils.data
from torch.utils.data import TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import ArgumentError, DataLoader, StateError
from fastpipe.loader.epoch import LiftedLane
from fastpipe.storage import FolderLeaf

TAIL = [transforms.ToTensor()]
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])


def _dataset(root, transform=TRAIN):
    dataset = ImageFolder(str(root), transform)
    dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)]
    return dataset


def _same(a, b):
    assert len(a) == len(b)
    for (x, i), (y, j) in zip(a, b, strict=True):
        assert i.tolist() == j.tolist()
        assert torch.equal(x, y)


def _saved(state):
    """Through a file, as a checkpoint goes: plain values only."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    assert buffer.tell() < 12_000, "a state must not grow with the data"
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


KINDS = {
    "seed": dict(seed=5, shuffle=True),
    "no-seed": dict(shuffle=True),
    "weighted": dict(weights=True),
    "distributed": dict(distributed=True, seed=5),
    "generator": dict(shuffle=True, own_generator=True),
}


def _loader(photos, kind, workers, persistent=False):
    options = dict(KINDS[kind])
    dataset = _dataset(photos)
    if options.pop("weights", False):
        options["sampler"] = torch.utils.data.WeightedRandomSampler([1.0 + i for i in range(24)], 26)
    if options.pop("distributed", False):
        options["sampler"] = fastpipe.DistributedSampler(dataset, 2, 1, seed=3)
    if options.pop("own_generator", False):
        options["generator"] = torch.Generator().manual_seed(9)
    return DataLoader(dataset, 5, num_workers=workers, persistent_workers=persistent, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_new_loader_continues_with_the_next_sample(photos, kind, workers):
    """Epoch 1 is broken off after two batches; the rest of it and epoch 2 must be the uninterrupted ones."""
    torch.manual_seed(2)
    whole = _loader(photos, kind, workers)
    epochs = [list(whole) for _ in range(2)]
    after = torch.get_rng_state()
    third = list(whole)

    torch.manual_seed(2)
    first = _loader(photos, kind, workers)
    list(first)
    iterator = iter(first)
    begun = [next(iterator), next(iterator)]
    state = _saved(first.state_dict())
    assert (state["epoch"], state["delivered"], state["resumable"]) == (
        (0 if kind == "distributed" else 1),
        2,
        True,
    )
    del iterator
    _same(begun, epochs[1][:2])

    torch.manual_seed(77)  # another process, another state of the global generator
    resumed = _loader(photos, kind, workers)
    before = torch.get_rng_state()
    resumed.load_state_dict(state)
    _same(list(resumed), epochs[1][2:])
    if kind != "generator":
        assert torch.equal(torch.get_rng_state(), before), (
            "resuming draws nothing from the script's generator"
        )
    torch.set_rng_state(after)  # a script restores its own generator
    _same(list(resumed), third)


def test_persistent_workers_resume_too(photos):
    torch.manual_seed(4)
    whole = _loader(photos, "no-seed", 1, persistent=True)
    epochs = [list(whole) for _ in range(3)]
    torch.manual_seed(4)
    first = _loader(photos, "no-seed", 1, persistent=True)
    list(first)
    iterator = iter(first)
    next(iterator)
    after = None
    state = _saved(first.state_dict())
    rest = list(iterator)
    _same(rest, epochs[1][1:])
    after = torch.get_rng_state()
    resumed = _loader(photos, "no-seed", 1, persistent=True)
    resumed.load_state_dict(state)
    _same(list(resumed), epochs[1][1:])
    torch.set_rng_state(after)
    _same(list(resumed), epochs[2])


def test_resuming_decodes_nothing_again(photos, monkeypatch):
    loader = DataLoader(_dataset(photos), 4, seed=1, shuffle=True)
    iterator = iter(loader)
    for _ in range(4):
        next(iterator)
    state = loader.state_dict()
    opened = []
    real = FolderLeaf.rgb
    monkeypatch.setattr(FolderLeaf, "rgb", lambda leaf, i: opened.append(i) or real(leaf, i))
    resumed = DataLoader(_dataset(photos), 4, seed=1, shuffle=True)
    resumed.load_state_dict(state)
    assert len(list(resumed)) == 2
    assert len(opened) == 8
    assert len(resumed) == 6, "len stays the full epoch"


def test_state_counts_what_was_delivered_not_what_was_prefetched(photos):
    loader = DataLoader(_dataset(photos), 4, seed=1, num_workers=1, prefetch_factor=4)
    assert loader.state_dict()["delivered"] == 0
    iterator = iter(loader)
    for number in range(1, 4):
        next(iterator)
        assert loader.state_dict()["delivered"] == number
    state = loader.state_dict()
    assert not state["finished"]
    list(iterator)
    assert loader.state_dict()["finished"]


def test_a_finished_epoch_resumes_with_the_next_one(photos):
    loader = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
    first, second = list(loader), None
    state = loader.state_dict()
    second = list(loader)
    resumed = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
    resumed.load_state_dict(state)
    _same(list(resumed), second)
    assert not torch.equal(first[0][0], second[0][0])


def test_set_epoch_with_the_same_value_keeps_the_position_another_drops_it(photos):
    loader = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
    loader.set_epoch(3)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    for epoch, remaining in ((3, 2), (4, 3)):
        resumed = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
        resumed.load_state_dict(state)
        resumed.set_epoch(epoch)
        assert len(list(resumed)) == remaining


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_loads_at_another_worker_count(photos, workers):
    whole = list(DataLoader(_dataset(photos), 4, seed=1, shuffle=True))
    loader = DataLoader(_dataset(photos), 4, seed=1, shuffle=True, num_workers=1)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    resumed = DataLoader(_dataset(photos), 4, seed=1, shuffle=True, num_workers=workers)
    resumed.load_state_dict(state)
    _same(list(resumed), whole[1:])


def test_states_that_do_not_fit_are_refused(photos):
    loader = DataLoader(_dataset(photos), 4, seed=1, shuffle=True)
    next(iter(loader))
    state = loader.state_dict()
    cases = [
        (DataLoader(_dataset(photos), 4, seed=2, shuffle=True), {}, "order"),
        (DataLoader(_dataset(photos), 4, seed=1), {}, "order"),
        (loader, {"version": 99}, "format version 99"),
    ]
    for other, change, words in cases:
        with pytest.raises(StateError, match=words):
            other.load_state_dict({**state, **change})
    with pytest.raises(StateError, match="lacks"):
        loader.load_state_dict({"epoch": 1})


def test_un_lifted_loaders_without_seed_say_that_they_cannot_resume():
    data = TensorDataset(torch.arange(20))
    loader = DataLoader(data, 4, shuffle=True)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    assert (state["delivered"], state["resumable"]) == (1, False)
    with pytest.raises(StateError, match="Pass seed="):
        DataLoader(data, 4, shuffle=True, strict_resume=True).load_state_dict(state)
    seeded = DataLoader(data, 4, shuffle=True, seed=2)
    whole = list(seeded)
    again = DataLoader(data, 4, shuffle=True, seed=2)
    iterator = iter(again)
    next(iterator)
    resumed = DataLoader(data, 4, shuffle=True, seed=2, num_workers=1)
    resumed.load_state_dict(_saved(again.state_dict()))
    assert [b[0].tolist() for b in resumed] == [b[0].tolist() for b in whole[1:]]


def test_a_samplers_epoch_comes_first(photos):
    dataset = _dataset(photos)
    sampler = torch.utils.data.DistributedSampler(dataset, 1, 0)
    loader = DataLoader(dataset, 24, sampler=sampler, seed=1)
    same = [next(iter(loader))[0] for _ in range(2)]
    assert torch.equal(*same)
    loader.set_epoch(1)
    assert sampler.epoch == 1
    assert not torch.equal(same[0], next(iter(loader))[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_resolution_is_a_function_of_epoch_and_batch(photos, workers):
    loader = DataLoader(
        _dataset(photos),
        6,
        seed=1,
        num_workers=workers,
        resolution=lambda epoch, batch: 16 + 8 * epoch + 4 * batch,
    )
    sizes = [[images.shape[-1] for images, _ in loader] for _ in range(2)]
    assert sizes == [[16, 20, 24, 28], [24, 28, 32, 36]]


def test_another_size_changes_the_size_alone_the_box_is_the_same(photos):
    """One resize straight from the crop: at 32 px the bytes are those of a transform at 32 px."""
    at_32 = list(DataLoader(_dataset(photos), 6, seed=1, resolution=32))
    direct = list(DataLoader(_dataset(photos), 6, seed=1))
    _same(at_32, direct)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("persistent", [False, True])
def test_set_resolution_holds_from_the_next_delivered_batch(photos, workers, persistent):
    if persistent and not workers:
        return
    options = dict(num_workers=workers, persistent_workers=persistent)
    if workers:
        options["prefetch_factor"] = 4
    reference = list(DataLoader(_dataset(photos), 4, seed=1, shuffle=True, resolution=24))
    loader = DataLoader(_dataset(photos), 4, seed=1, shuffle=True, **options)
    batches = []
    for number, batch in enumerate(loader):
        batches.append(batch)
        if number == 1:
            loader.set_resolution(24)
    assert [images.shape[-1] for images, _ in batches] == [32, 32, 24, 24, 24, 24]
    _same(batches[2:], reference[2:])
    loader.set_resolution(None)
    assert next(iter(loader))[0].shape[-1] == 32


def test_set_resolution_after_everything_was_prepared(photos, monkeypatch):
    prepared, prepare = [], LiftedLane.prepare

    def noted(lane, result):
        made = prepare(lane, result)
        prepared.append(made.number)
        return made

    monkeypatch.setattr(LiftedLane, "prepare", noted)
    loader = DataLoader(_dataset(photos), 12, seed=1, num_workers=1, prefetch_factor=4)
    iterator = iter(loader)
    next(iterator)
    deadline = time.monotonic() + 60
    while len(prepared) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert prepared == [0, 1]
    loader.set_resolution(20)
    assert [images.shape[-1] for images, _ in iterator] == [20]
    assert prepared == [0, 1, 1]


def test_resolution_without_a_crop_is_refused(photos):
    loader = DataLoader(photos, transform=transforms.ToTensor(), resolution=32)
    with pytest.raises(ArgumentError, match="crop"):
        iter(loader)
    with pytest.raises(ArgumentError, match="resolution must be an int"):
        list(DataLoader(photos, transform=TRAIN, resolution=lambda epoch, batch: 3.5))


def test_seeded_order_does_not_depend_on_the_batch_size(photos):
    orders = [
        [i for _, labels in DataLoader(_dataset(photos), size, seed=7, shuffle=True) for i in labels.tolist()]
        for size in (1, 5, 24)
    ]
    assert orders[0] == orders[1] == orders[2]
