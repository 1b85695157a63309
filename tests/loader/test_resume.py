"""Continuing elsewhere: another world size, another backend, another process after kill -9."""

import json
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.utils.data
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import DataLoader, StateError

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)


def _dataset(root):
    dataset = ImageFolder(str(root), TRAIN)
    dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)]
    return dataset


def _rank(photos, world, rank, *, batch=8, sampler=fastpipe.DistributedSampler, sampler_seed=7):
    dataset = _dataset(photos)
    order = sampler(dataset, world, rank, seed=sampler_seed)
    return DataLoader(dataset, batch // world, sampler=order, seed=5)


def _global_batches(loaders):
    """For each step, the samples of all ranks by id: {id: its pixels}."""
    for parts in zip(*loaders, strict=True):
        step = {}
        for images, ids in parts:
            step.update(zip(ids.tolist(), images, strict=True))
        yield step


def _same_step(a, b):
    assert sorted(a) == sorted(b)
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("sampler", [fastpipe.DistributedSampler, fastpipe.PageLocalSampler])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 1), (4, 2)])
def test_a_changed_world_size_continues_with_the_same_global_batches(photos, sampler, before, after):
    whole = list(_global_batches([_rank(photos, 1, 0, sampler=sampler)]))
    first = [_rank(photos, before, rank, sampler=sampler) for rank in range(before)]
    steps = _global_batches(first)
    _same_step(next(steps), whole[0])
    state = first[0].state_dict()
    assert (state["delivered"], state["world_size"], state["batch_size"]) == (1, before, 8 // before)
    resumed = [_rank(photos, after, rank, sampler=sampler) for rank in range(after)]
    for loader in resumed:
        loader.load_state_dict(state)
    rest = list(_global_batches(resumed))
    assert len(rest) == 2
    for step, expected in zip(rest, whole[1:], strict=True):
        _same_step(step, expected)


def test_another_order_of_the_sampler_is_refused(photos):
    loader = _rank(photos, 2, 0)
    next(iter(loader))
    state = loader.state_dict()
    with pytest.raises(StateError, match="order"):
        _rank(photos, 2, 0, sampler_seed=8).load_state_dict(state)


class _Walk(torch.utils.data.Sampler):
    """A sampler with a generator of its own: replaying its ids needs the state it began the epoch with."""

    def __init__(self, num):
        self.num = num
        self.generator = torch.Generator().manual_seed(1)

    def __len__(self):
        return self.num

    def __iter__(self):
        return iter(torch.randperm(self.num, generator=self.generator).tolist())

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


def test_a_stateful_sampler_is_put_back_to_the_epochs_start(photos):
    """As torchdata's StatefulDataLoader does for samplers with state_dict."""
    data = _dataset(photos)
    whole = DataLoader(data, 8, sampler=_Walk(24), seed=1)
    epochs = [[ids.tolist() for _, ids in whole] for _ in range(3)]
    first = DataLoader(data, 8, sampler=_Walk(24), seed=1)
    list(first)
    finished = DataLoader(data, 8, sampler=_Walk(24), seed=1)
    finished.load_state_dict(first.state_dict())
    assert [ids.tolist() for _, ids in finished] == epochs[1]
    iterator = iter(first)
    next(iterator)
    state = first.state_dict()
    resumed = DataLoader(data, 8, sampler=_Walk(24), seed=1)
    resumed.load_state_dict(state)
    assert [ids.tolist() for _, ids in resumed] == epochs[1][1:]
    assert [ids.tolist() for _, ids in resumed] == epochs[2]


def test_load_then_save_without_a_step_keeps_the_position(photos):
    """A run that is stopped again before its first step must not lose its place."""
    loader = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
    whole = [ids.tolist() for _, ids in loader]
    loader = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
    next(iter(loader))
    again = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
    again.load_state_dict(loader.state_dict())
    third = DataLoader(_dataset(photos), 8, seed=1, shuffle=True)
    third.load_state_dict(again.state_dict())
    iterator = iter(third)
    state = third.state_dict()  # begun, nothing taken yet
    assert state["delivered"] == 1
    assert [ids.tolist() for _, ids in iterator] == whole[1:]


KILLED = """
    import json, os, sys, torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder
    from fastpipe import DataLoader
    root, place, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    transform = transforms.Compose(
        [transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    dataset = ImageFolder(root, transform)
    dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)]
    loader = DataLoader(dataset, 3, shuffle=True, seed=9, num_workers=workers)
    if os.path.exists(place):
        loader.load_state_dict(torch.load(place, weights_only=True))
    for images, ids in loader:
        print(json.dumps([ids.tolist(), images.double().sum().item()]), flush=True)
        torch.save(loader.state_dict(), place + ".new")
        os.replace(place + ".new", place)
        print("saved", flush=True)
"""


def _start(photos, place, workers):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KILLED), str(photos), str(place)]
    return subprocess.Popen([*command, str(workers)], stdout=subprocess.PIPE, text=True)


def test_kill_9_in_mid_epoch_and_resume_in_another_process(photos, tmp_path):
    place = tmp_path / "state.pt"
    first = _start(photos, place, 1)
    lines = []
    while sum(line == "saved\n" for line in lines) < 3:
        line = first.stdout.readline()
        assert line, "the script ended before it was killed"
        lines.append(line)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    delivered = torch.load(place, weights_only=True)["delivered"]  # maybe a batch more than was read here
    assert delivered >= 3
    second = _start(photos, place, 0)
    rest = [json.loads(line) for line in second.communicate(timeout=60)[0].splitlines() if line != "saved"]
    whole = DataLoader(_dataset(photos), 3, shuffle=True, seed=9)
    expected = [[ids.tolist(), images.double().sum().item()] for images, ids in whole]
    assert [json.loads(line) for line in lines if line != "saved\n"][:3] == expected[:3]
    assert rest == expected[delivered:]
