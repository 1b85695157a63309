"""Which loaders can be resumed exactly, what happens to the others, and that no replay goes unseen."""

import io
import warnings

import pytest
import torch
import torch.utils.data
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import DataLoader, StateError

TRAIN = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])
JITTER = transforms.Compose(
    [transforms.RandomResizedCrop(16), transforms.ColorJitter(0.4), transforms.ToTensor()]
)
NUM = 24
DATA = TensorDataset(torch.arange(NUM))


def _folder(root, transform=TRAIN):
    dataset = ImageFolder(str(root), transform)
    dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)]
    return dataset


def _ids(batch):
    return batch[-1].tolist()


def _through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


class Drawn(Sampler):
    """The script's own: shuffles by torch's global generator."""

    def __iter__(self):
        return iter(torch.randperm(NUM).tolist())

    def __len__(self):
        return NUM


class Steady(Drawn):
    """The script's own, the same order every time, which nobody can know of it."""

    def __iter__(self):
        return iter(reversed(range(NUM)))


class Remembering(Drawn):
    """Says what it draws from."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(6)

    def __iter__(self):
        return iter(torch.randperm(NUM, generator=self.generator).tolist())

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


class OwnBatches(BatchSampler):
    pass


def _generator():
    return torch.Generator().manual_seed(
        int(torch.randint(1 << 40, ()))
    )  # as a script that seeds nothing makes it


SAMPLERS = {
    "shuffle": lambda: dict(batch_size=5, shuffle=True),
    "sequential": lambda: dict(batch_size=5),
    "random": lambda: dict(batch_size=5, sampler=RandomSampler(DATA)),
    "random with its generator": lambda: dict(
        batch_size=5, sampler=RandomSampler(DATA, generator=_generator())
    ),
    "replacement": lambda: dict(batch_size=5, sampler=RandomSampler(DATA, replacement=True, num_samples=30)),
    "subset": lambda: dict(batch_size=5, sampler=SubsetRandomSampler(range(3, 24))),
    "weighted": lambda: dict(
        batch_size=5, sampler=WeightedRandomSampler([1.0] * NUM, NUM, generator=_generator())
    ),
    "list of ids": lambda: dict(batch_size=5, sampler=list(range(20))),
    "batches of random": lambda: dict(
        batch_sampler=BatchSampler(RandomSampler(DATA, generator=_generator()), 5, False)
    ),
    "list of batches": lambda: dict(batch_sampler=[[1, 2], [5], [7, 8, 9], [4]]),
    "loader's generator": lambda: dict(batch_size=5, shuffle=True, generator=_generator()),
    "both generators": lambda: dict(
        batch_size=5, sampler=RandomSampler(DATA, generator=_generator()), generator=_generator()
    ),
    "distributed": lambda: dict(batch_size=5, sampler=fastpipe.DistributedSampler(DATA, 2, 1, seed=3)),
    "torch's distributed": lambda: dict(
        batch_size=5, sampler=torch.utils.data.DistributedSampler(DATA, 2, 1, seed=3)
    ),
    "stateful": lambda: dict(batch_size=5, sampler=Remembering()),
    "batches of stateful": lambda: dict(batch_sampler=BatchSampler(Remembering(), 5, False)),
}
NOT_RESUMABLE = {
    "own": lambda: dict(batch_size=5, sampler=Drawn()),
    "steady": lambda: dict(batch_size=5, sampler=Steady()),
    "own batches": lambda: dict(batch_sampler=OwnBatches(SequentialSampler(DATA), 5, False)),
}


@pytest.mark.parametrize("lifted", [True, False], ids=["lifted", "own data set"])
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])  # resumed with the other
@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
def test_the_tail_is_as_it_was(photos, make, workers, seed, lifted):
    """Also for an own data set without seed, whose order can be drawn again and whose random steps cannot."""
    data = _folder(photos) if lifted else DATA
    torch.manual_seed(0)
    first = DataLoader(data, num_workers=workers, seed=seed, **make())
    list(first)
    iterator = iter(first)
    next(iterator), next(iterator)
    state = _through_a_file(first.state_dict())
    tail = [_ids(batch) for batch in iterator]
    assert state["resumable"] == (lifted or seed is not None)
    torch.manual_seed(77)  # another process
    resumed = DataLoader(data, num_workers=1 - workers, seed=seed, **make())
    with warnings.catch_warnings():
        if not state["resumable"]:
            warnings.simplefilter("ignore", UserWarning)
        resumed.load_state_dict(state)
    assert [_ids(batch) for batch in resumed] == tail


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("make", NOT_RESUMABLE.values(), ids=NOT_RESUMABLE)
def test_any_other_sampler_says_that_it_cannot_be_resumed(photos, make, seed):
    loader = DataLoader(_folder(photos), seed=seed, **make())
    next(iter(loader))
    assert not loader.state_dict()["resumable"]


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("data", [None, DATA], ids=["lifted", "own data set"])
def test_a_replay_of_other_ids_raises(photos, data, seed):
    data = _folder(photos) if data is None else data
    torch.manual_seed(0)
    first = DataLoader(data, 5, sampler=Drawn(), seed=seed)
    iterator = iter(first)
    next(iterator), next(iterator)
    state = first.state_dict()
    torch.manual_seed(77)
    resumed = DataLoader(data, 5, sampler=Drawn(), seed=seed)
    with pytest.warns(UserWarning, match="cannot promise to continue exactly"):
        resumed.load_state_dict(state)
    if seed is None:  # the state holds the global generator, so that even this sampler is replayed
        assert len(list(resumed)) == 3
    else:
        with pytest.raises(StateError, match="does not repeat the 2 batches of epoch 0"):
            iter(resumed)


def test_a_sampler_that_happens_to_be_steady_goes_on_exactly(photos):
    first = DataLoader(_folder(photos), 5, sampler=Steady(), seed=1)
    iterator = iter(first)
    next(iterator)
    state = first.state_dict()
    tail = [_ids(batch) for batch in iterator]
    resumed = DataLoader(_folder(photos), 5, sampler=Steady(), seed=1)
    with pytest.warns(UserWarning) as caught:
        resumed.load_state_dict(state)
    assert len(caught) == 1
    assert [_ids(batch) for batch in resumed] == tail


def _in_mid_epoch(loader, batches=2):
    iterator = iter(loader)
    for _ in range(batches):
        next(iterator)
    return loader.state_dict(), [_ids(batch) for batch in iterator]


@pytest.mark.parametrize(
    ("workers", "persistent"), [(0, False), (1, False), (2, False), (1, True), (2, True)]
)
def test_the_state_of_a_loader_that_runs_as_torch(workers, persistent):
    loader = DataLoader(DATA, 5, shuffle=True, num_workers=workers, persistent_workers=persistent)
    for epoch in range(2):
        for number, _ in enumerate(loader):
            assert loader.state_dict()["delivered"] == number + 1
            if number == 2:
                break
        state = loader.state_dict()  # the iterator is gone
        assert (state["epoch"], state["delivered"], state["finished"]) == (2 * epoch, 3, False)
        list(loader)
        state = loader.state_dict()
        assert (state["epoch"], state["delivered"], state["finished"]) == (2 * epoch + 1, 5, True)
    fresh = DataLoader(DATA, 5, shuffle=True, strict_resume=True)
    fresh.load_state_dict(state)
    assert len(list(fresh)) == 5
    assert fresh.state_dict()["epoch"] == 4


def test_behind_a_failing_batch_the_state_knows_its_place():
    class Failing(TensorDataset):
        def __getitem__(self, index):
            if index == 7:
                raise ValueError("seven")
            return super().__getitem__(index)

    for options in ({}, dict(num_workers=1), dict(seed=1), dict(seed=1, num_workers=1)):
        loader = DataLoader(Failing(torch.arange(NUM)), 5, **options)
        iterator = iter(loader)
        next(iterator)
        with pytest.raises(ValueError, match="seven"):
            next(iterator)
        assert _ids(next(iterator)) == [10, 11, 12, 13, 14]
        state = loader.state_dict()
        assert state["delivered"] == 3
        resumed = DataLoader(DATA, 5, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            resumed.load_state_dict(state)
        assert [_ids(batch)[0] for batch in resumed] == [15, 20]


@pytest.mark.parametrize("kind", ["own data set", "one unknown step"])
@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_not_promised_goes_on_with_one_warning(photos, kind, workers):
    data = DATA if kind == "own data set" else _folder(photos, JITTER)
    torch.manual_seed(1)
    state, tail = _in_mid_epoch(DataLoader(data, 5, shuffle=True, num_workers=workers))
    assert not state["resumable"]
    torch.manual_seed(2)
    resumed = DataLoader(data, 5, shuffle=True, num_workers=workers)
    with pytest.warns(UserWarning, match=r"2 batches into epoch 0.*Pass seed=") as caught:
        resumed.load_state_dict(state)
    assert len(caught) == 1
    assert [_ids(batch) for batch in resumed] == tail
    assert len(list(resumed)) == 5, "the next epoch is whole"
    with pytest.raises(StateError, match="strict_resume=True"):
        DataLoader(data, 5, shuffle=True, strict_resume=True).load_state_dict(state)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(
    ("before", "batches", "after", "again"), [(4, 2, 8, 0), (8, 2, 4, 0), (4, 3, 8, 4), (6, 3, 4, 2)]
)
def test_another_batch_size_continues_at_the_same_sample(photos, before, batches, after, again, seed):
    torch.manual_seed(3)
    first = DataLoader(_folder(photos), before, shuffle=True, seed=seed)
    iterator = iter(first)
    seen = [i for _ in range(batches) for i in _ids(next(iterator))]
    state = first.state_dict()
    rest = [i for batch in iterator for i in _ids(batch)]
    torch.manual_seed(4)
    resumed = DataLoader(_folder(photos), after, shuffle=True, seed=seed)
    with pytest.warns(UserWarning, match=f"global batch of {before} .*this loader has {after} ") as caught:
        resumed.load_state_dict(state)
    assert len(caught) == 1
    assert (f"{again} samples are delivered again" in str(caught[0].message)) == bool(again)
    expected = seen[len(seen) - again :] + rest if again else rest
    assert [i for batch in resumed for i in _ids(batch)] == expected
    strict = DataLoader(_folder(photos), after, shuffle=True, seed=seed, strict_resume=True)
    with pytest.raises(StateError, match="Set batch_size to"):
        strict.load_state_dict(state)


def _rank(photos, world, rank, batch):
    data = _folder(photos)
    order = fastpipe.DistributedSampler(data, world, rank, seed=7)
    return DataLoader(data, batch, sampler=order, seed=5)


def test_another_world_size_continues_at_the_same_sample(photos):
    """Two ranks of 3, after two steps, become four ranks of 3: the next 12 samples of the same order."""
    first = [_rank(photos, 2, rank, 3) for rank in range(2)]
    states = [_in_mid_epoch(loader)[0] for loader in first]
    whole = _ids(next(iter(_rank(photos, 1, 0, 24))))
    resumed = [_rank(photos, 4, rank, 3) for rank in range(4)]
    rest = []
    for loader in resumed:
        with pytest.warns(UserWarning, match="on 2 ranks"):
            loader.load_state_dict(states[0])
        rest += [i for batch in loader for i in _ids(batch)]
    assert sorted(rest) == sorted(whole[12:])


def test_a_state_of_rank_0_loads_on_every_rank(photos):
    first = [_rank(photos, 2, rank, 3) for rank in range(2)]
    tails = [_in_mid_epoch(loader)[1] for loader in first]
    state = _in_mid_epoch(_rank(photos, 2, 0, 3))[0]
    for rank, tail in enumerate(tails):
        loader = _rank(photos, 2, rank, 3)
        loader.load_state_dict(state)
        assert [_ids(batch) for batch in loader] == tail


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(range(10))


def test_an_iterable_data_set_begins_its_epoch_again_and_says_so():
    first = DataLoader(Stream(), 3)
    iterator = iter(first)
    next(iterator)
    state = first.state_dict()
    assert (state["delivered"], state["resumable"], state["ids"]) == (1, False, None)
    resumed = DataLoader(Stream(), 3)
    with pytest.warns(UserWarning, match="the epoch begins again"):
        resumed.load_state_dict(state)
    assert [batch.tolist() for batch in resumed] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert resumed.state_dict()["finished"]


def test_a_state_written_before_there_was_a_hash_still_loads(photos):
    loader = DataLoader(_folder(photos), 5, shuffle=True, seed=1)
    state, tail = _in_mid_epoch(loader)
    for key in ("ids", "rank", "order_generator"):
        del state[key]
    resumed = DataLoader(_folder(photos), 5, shuffle=True, seed=1)
    resumed.load_state_dict(state)
    assert [_ids(batch) for batch in resumed] == tail


def test_a_state_with_other_ids_is_seen(photos):
    """Here the files were sorted anew between the two runs."""
    loader = DataLoader(_folder(photos), sampler=[3, 1, 2, 0], batch_size=2, seed=1)
    state, _ = _in_mid_epoch(loader, 1)
    resumed = DataLoader(_folder(photos), sampler=[0, 1, 2, 3], batch_size=2, seed=1)
    resumed.load_state_dict(state)
    for _ in range(2):  # the second must not begin the epoch anew in silence
        with pytest.raises(StateError, match="some samples would come twice"):
            iter(resumed)
    resumed.set_epoch(1)  # this drops the position aloud
    assert len(list(resumed)) == 2


def test_order_out_of_turn_is_no_order():
    loader = DataLoader(DATA, 5, num_workers=2, in_order=False, seed=1)
    next(iter(loader))
    state = loader.state_dict()
    assert (state["ids"], state["resumable"]) == (None, False)
