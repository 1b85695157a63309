"""A loader in a pickle, a copy, a type annotation and a log."""

import copy
import io
import logging
import pickle
from typing import get_type_hints

import pytest
import torch
import torch.utils.data
from torch.utils.data import TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import DataLoader, augment

TRAIN = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])


def _saved(loader):
    buffer = io.BytesIO()
    torch.save(loader, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "pickle": lambda loader: pickle.loads(pickle.dumps(loader)),
    "oldest pickle": lambda loader: pickle.loads(pickle.dumps(loader, 2)),
    "torch.save": _saved,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
LOADERS = {
    "lifted": dict(num_workers=0, augment=[augment.ColOut()], memory_format=torch.channels_last),
    "workers": dict(num_workers=1, seed=3, resolution=20),
    "persistent": dict(num_workers=1, persistent_workers=True, on_error="skip"),
    "generator": dict(generator=torch.Generator().manual_seed(2)),
    "torch": dict(backend="torch"),
    "moved": dict(backend="torch", device="cpu"),
}


@pytest.mark.parametrize("options", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_an_iterated_loader_can_be_copied_and_saved(photos, copied, options):
    loader = DataLoader(ImageFolder(str(photos), TRAIN), 8, shuffle=True, **options)
    iterator = iter(loader)
    next(iterator)  # in mid-epoch, with workers and threads alive
    again = copied(loader)
    assert again.memory_format is loader.memory_format
    assert len(list(again)) == len(loader) == 3
    assert len(list(iterator)) == 2, "the original goes on"


def test_a_copy_continues_with_the_same_epochs(photos):
    loader = DataLoader(ImageFolder(str(photos), TRAIN), 8, shuffle=True, seed=3)
    list(loader)
    again = pickle.loads(pickle.dumps(loader))
    for ours, theirs in zip(loader, again, strict=True):
        assert torch.equal(ours[0], theirs[0])


def test_a_loaded_position_travels_with_the_copy(photos):
    loader = DataLoader(ImageFolder(str(photos), TRAIN), 8, shuffle=True, seed=3)
    next(iter(loader))
    state = loader.state_dict()
    resumed = DataLoader(ImageFolder(str(photos), TRAIN), 8, shuffle=True, seed=3)
    resumed.load_state_dict(state)
    assert len(list(pickle.loads(pickle.dumps(resumed)))) == 2


def test_the_class_is_generic_as_torchs_is():
    def feed(loader: DataLoader[torch.Tensor]) -> None: ...

    class Mine(DataLoader[tuple[torch.Tensor, int]]):
        pass

    class Still(DataLoader):
        pass

    assert get_type_hints(feed)["loader"] == DataLoader[torch.Tensor]
    for kind in (DataLoader[torch.Tensor], Mine, Still):
        batches = list(kind(TensorDataset(torch.arange(4)), 2))
        assert [batch[0].tolist() for batch in batches] == [[0, 1], [2, 3]]
    assert isinstance(Mine(TensorDataset(torch.arange(4))), torch.utils.data.DataLoader)


def test_a_loader_that_lifts_nothing_says_so_once(caplog):
    with caplog.at_level(logging.INFO, "fastpipe"):
        loader = DataLoader(TensorDataset(torch.arange(4)), 2)
        list(loader), list(loader)
        list(DataLoader(TensorDataset(torch.arange(4)), 2, seed=1))
    said = [record for record in caplog.records if "nothing is lifted" in record.message]
    assert [record.levelname for record in said] == ["INFO", "INFO"]
    assert "TensorDataset is not an image folder" in said[0].message


def test_a_lifted_loader_does_not_say_so(photos, caplog):
    with caplog.at_level(logging.INFO, "fastpipe"):
        list(DataLoader(ImageFolder(str(photos), TRAIN), 8))
    assert "nothing is lifted" not in caplog.text


def _mark(worker_id):
    torch.utils.data.get_worker_info().dataset.mark = worker_id


class Marked(torch.utils.data.Dataset):
    mark = -1

    def __len__(self):
        return 6

    def __getitem__(self, index):
        info = torch.utils.data.get_worker_info()
        return torch.tensor([index, self.mark, info.id, info.num_workers])


@pytest.mark.parametrize(
    "options", [{}, dict(seed=1), dict(on_error="skip"), dict(device="cpu"), dict(seed=1, device="cpu")]
)
def test_workers_are_seen_as_torchs_are(options):
    """torch's own tests read `_workers`, and what worker_init_fn put into get_worker_info().dataset."""
    iterator = iter(DataLoader(Marked(), 1, num_workers=2, worker_init_fn=_mark, **options))
    workers = list(iterator._workers)
    assert len(workers) == 2 and all(worker.is_alive() for worker in workers)
    rows = torch.cat(list(iterator)).tolist()
    assert rows == [[index, index % 2, index % 2, 2] for index in range(6)]
    del iterator
    for worker in workers:
        worker.join(20)
        assert not worker.is_alive()


def test_lifted_loaders_show_their_workers_too(photos):
    iterator = iter(DataLoader(ImageFolder(str(photos), TRAIN), 4, num_workers=2))
    workers = list(iterator._workers)
    assert len(workers) == 2
    next(iterator)
    del iterator
    for worker in workers:
        worker.join(20)
        assert not worker.is_alive(), "workers exit though the epoch is not over"
