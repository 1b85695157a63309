"""An id goes to the data set as the sampler gave it, and what torch refuses is refused alike."""

from collections import UserList

import numpy as np
import pytest
import torch
import torch.utils.data
from torch.utils.data import BatchSampler, ConcatDataset, Dataset, SequentialSampler, Subset
from torchvision import transforms

from fastpipe import DataLoader

TorchLoader = torch.utils.data.DataLoader
PLAIN = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
BACKENDS = [
    "torchvision",
    pytest.param("dali", marks=pytest.mark.dali),
    pytest.param("ffcv", marks=pytest.mark.ffcv),
]
MASK = np.arange(24) >= 20


class Given:
    """A batch sampler that gives these batches; each is made when it is asked for."""

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return (batch() if callable(batch) else batch for batch in self.batches)


def _outcome(loader):
    """The labels of each batch, or the type and the beginning of the error."""
    try:
        return [labels.tolist() for _, labels in loader]
    except Exception as error:
        return type(error)


REFUSED = {
    "tuples": [[(10, 1), (12, 3)]],
    "floats": [np.array([1.9, 2.9])],
    "a float": [[3, 1.0]],
    "strings": [["11", "12"]],
    "a string": ["12"],
    "numpy bools": [MASK[:3]],
    "None": [[None]],
    "nested lists": [[[1, 2], [3]]],
    "a matrix": [np.arange(4).reshape(2, 2)],
    "a number": [3],
    "nothing": [[]],
    "an empty tensor": [torch.empty(0, dtype=torch.int64)],
    "out of range": [[99]],
}
TAKEN = {
    "a set": [{11, 12}],
    "a frozenset": [frozenset({3})],
    "a generator": [lambda: (i for i in (11, 12))],
    "a map": [lambda: map(int, "345")],
    "a range": [range(3, 6)],
    "a tuple": [(5, 6)],
    "a dict": [{7: "x", 8: "y"}],
    "a tensor": [torch.tensor([3, 1])],
    "an array": [np.array([3, 1], dtype=np.uint8)],
    "numpy integers": [[np.int64(3), np.uint16(2)]],
    "0-d tensors": [[torch.tensor(3), torch.tensor(9)]],
    "python bools": [[True, False]],
    "negative ids": [[-1, -24]],
    "a list of one's own": [UserList([4, 5])],
}


@pytest.mark.parametrize("batches", [*REFUSED.values(), *TAKEN.values()], ids=[*REFUSED, *TAKEN])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_of_ids_means_what_it_means_to_torch(labelled, backend, batches):
    theirs = _outcome(TorchLoader(labelled("", PLAIN), batch_sampler=Given(*batches)))
    for workers in (0, 1):
        ours = DataLoader(
            labelled(backend, PLAIN),
            batch_sampler=Given(*batches),
            num_workers=workers,
            backend=backend,
            numerics="exact",
        )
        assert ours.explain().lifted
        assert _outcome(ours) == theirs


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "indices",
    [
        MASK,
        np.array([3.7, 4.9]),
        ["1", "2"],
        [(1, 2)],
        torch.tensor([4, 2]),
        np.array([5, 1]),
        range(2, 5),
        [True, 7],
    ],
    ids=["bool mask", "floats", "strings", "tuples", "tensor", "array", "range", "python bool"],
)
def test_subset_indices_mean_what_they_mean_to_torch(labelled, backend, indices):
    for wrap in (Subset, lambda d, i: ConcatDataset([Subset(d, i)])):
        theirs = _outcome(TorchLoader(wrap(labelled("", PLAIN), indices), 7))
        ours = DataLoader(wrap(labelled(backend, PLAIN), indices), 7, backend=backend, numerics="exact")
        assert _outcome(ours) == theirs


@pytest.mark.parametrize("options", [{}, dict(seed=1)])
def test_a_batch_sampler_given_as_sampler(labelled, options):
    """Batches of lists of ids: an image folder has no sample [0, 1]."""
    dataset = labelled("", PLAIN)
    sampler = BatchSampler(SequentialSampler(dataset), 2, False)
    assert _outcome(TorchLoader(dataset, 2, sampler=sampler)) is TypeError
    assert _outcome(DataLoader(dataset, 2, sampler=sampler, **options)) is TypeError


class Keyed(Dataset):
    """Any key is a sample: gives it back as text, with a number that was drawn for it."""

    def __len__(self):
        return 9

    def __getitem__(self, key):
        return repr(key), torch.rand(()).item()


class Batched(Keyed):
    """As Hugging Face data sets: prefers to be asked for several at once."""

    def __getitems__(self, keys):
        return [(f"many {key!r}", torch.rand(()).item()) for key in keys]


KEYS = {
    "tuples": [[(1, 4), (2, 4)], [(1, 5)]],
    "strings": [["a", "b"], ["c"]],
    "floats": [[0.5, 1.5], [2.5]],
    "mixed": [["a", 1], [(None, True, b"x"), 2.0]],
    "nested": [[[1, 2], [3]], [{"id": 4}]],
    "arrays": [[np.array([1, 2]), torch.tensor([3])], [np.float32(2)]],
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("batches", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("kind", [Keyed, Batched])
@pytest.mark.parametrize(
    "options", [dict(seed=1), dict(on_error="skip", quarantine=False)], ids=["seed", "skip"]
)
def test_keys_of_any_type_reach_the_data_set(kind, batches, options, workers):
    theirs = [texts for texts, _ in TorchLoader(kind(), batch_sampler=Given(*batches))]
    loader = DataLoader(kind(), batch_sampler=Given(*batches), num_workers=workers, **options)
    assert [texts for texts, _ in loader] == theirs


def test_draws_of_such_keys_are_theirs_alone():
    """The same key has the same draws in any process, batch and order; another key has others."""
    first = {}
    for order, workers in (([["a", "b"], [(1, 2), 7]], 0), ([[7], ["b", (1, 2), "a"]], 2)):
        for texts, draws in DataLoader(Keyed(), batch_sampler=Given(*order), num_workers=workers, seed=4):
            for text, draw in zip(texts, draws.tolist(), strict=True):
                assert first.setdefault(text, draw) == draw
    assert len(set(first.values())) == 4


class Bulk(Dataset):
    """torch's documented bulk loading: a list of ids in, a batch out."""

    def __len__(self):
        return 12

    def __getitem__(self, ids):
        return torch.as_tensor(ids)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("options", [{}, dict(seed=1), dict(on_error="skip", quarantine=False)], ids=str)
def test_bulk_loading_loads_every_sample(options, workers):
    sampler = BatchSampler(SequentialSampler(range(12)), 5, False)
    loader = DataLoader(Bulk(), batch_size=None, sampler=sampler, num_workers=workers, **options)
    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_bulk_loading_draws_anew_for_each_list():
    class Drawn(Bulk):
        def __getitem__(self, ids):
            return torch.rand(len(ids))

    sampler = BatchSampler(SequentialSampler(range(12)), 4, False)
    runs = [
        torch.stack(list(DataLoader(Drawn(), batch_size=None, sampler=sampler, seed=1, num_workers=workers)))
        for workers in (0, 2)
    ]
    assert torch.equal(*runs)
    assert len(torch.unique(runs[0])) == 12


class Nameless(torch.utils.data.Sampler):
    """Knows no length, in one of the ways that are in use."""

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        return iter(range(9))

    def __len__(self):
        raise self.error("length is not known")


@pytest.mark.parametrize("error", [NotImplementedError, ValueError, TypeError, RuntimeError])
@pytest.mark.parametrize("options", [{}, dict(seed=1), dict(on_error="skip", quarantine=False)], ids=str)
def test_a_sampler_need_not_know_its_length(labelled, error, options):
    loader = DataLoader(labelled("", PLAIN), 4, sampler=Nameless(error), **options)
    assert [len(labels) for _, labels in loader] == [4, 4, 1]
    assert loader.state_dict()["finished"]
    own = DataLoader(Keyed(), 4, sampler=Nameless(error), **options)
    assert [len(texts) for texts, _ in own] == [4, 4, 1]


class Endless(Dataset):
    """A data set without a length, which torch never asks for when a sampler is given."""

    def __getitem__(self, key):
        return key


@pytest.mark.parametrize("options", [{}, dict(seed=1), dict(on_error="skip", quarantine=False)], ids=str)
@pytest.mark.parametrize("error", [None, NotImplementedError])
def test_a_data_set_need_not_know_its_length(options, error):
    class Kind(Endless):
        pass

    if error is not None:

        def refuse(self):
            raise error

        Kind.__len__ = refuse
    loader = DataLoader(Kind(), 2, sampler=range(5), **options)
    iterator = iter(loader)
    assert next(iterator).tolist() == [0, 1]
    state = loader.state_dict()
    assert state["delivered"] == 1
    assert [batch.tolist() for batch in iterator] == [[2, 3], [4]]
    again = DataLoader(Kind(), 2, sampler=range(5), **{**options, "seed": 1})
    assert [batch.tolist() for batch in again] == [[0, 1], [2, 3], [4]]
