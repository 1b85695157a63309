"""Which samples come in which batch."""

import json
import subprocess

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Sampler, Subset

from fastpipe import BackendError, FolderDataset
from fastpipe.storage import BetonDataset

ALL = pytest.mark.parametrize("workers", [0, 1, 3])


def _ids(batches):
    return [labels.tolist() for _, labels in batches]


def _flat(batches):
    return [i for labels in _ids(batches) for i in labels]


@ALL
def test_ids_and_order_of_three_epochs(lab):
    """ids and order of three shuffled epochs"""
    loader = lab.loader(shuffle=True)
    orders = [_flat(loader) for _ in range(3)]
    assert orders == [lab.order(epoch) for epoch in range(3)]
    assert orders[0] != orders[1]


def test_sequential_order(lab):
    """order without shuffle"""
    assert _ids(lab.loader()) == [list(range(i, min(i + 6, lab.num))) for i in range(0, lab.num, 6)]


def test_set_epoch(lab):
    """set_epoch: order and crops of that epoch"""
    loader = lab.loader(shuffle=True)
    loader.set_epoch(5)
    batches = list(loader)
    assert _flat(batches) == lab.order(5)
    lab.check(batches[1][0], lab.expected(batches[1][1].tolist(), epoch=5))


@pytest.mark.parametrize("drop_last", [False, True])
def test_lengths_and_drop_last(lab, drop_last):
    """len, drop_last, the last partial batch, labels"""
    loader = lab.loader(drop_last=drop_last, shuffle=True)
    sizes = [6, 6, 6] if drop_last else [6, 6, 6, 2]
    for _ in range(2):
        batches = list(loader)
        assert len(loader) == len(sizes)
        assert [len(images) for images, _ in batches] == sizes
        assert [len(labels) for _, labels in batches] == sizes
        assert all(labels.dtype == torch.int64 for _, labels in batches)


def test_batch_size_one_and_larger_than_the_data(lab):
    """batches of 1, and one larger than the data"""
    assert _ids(lab.loader(batch_size=1)) == [[i] for i in range(lab.num)]
    assert _ids(lab.loader(batch_size=64)) == [list(range(lab.num))]
    assert list(lab.loader(batch_size=64, drop_last=True)) == []


def test_class_labels(lab):
    """labels of three classes"""
    labels = [i for batch in lab.loader(labels="classes") for i in batch[1].tolist()]
    assert labels == [i * 3 // lab.num for i in range(lab.num)]


class Backwards(Sampler):
    """A user's sampler, with repeated ids."""

    def __iter__(self):
        return iter([9, 9, 4, 4, 4, 0, 19])

    def __len__(self):
        return 7


def test_custom_sampler(lab):
    """a sampler of the user: repeated ids get new crops"""
    batches = list(lab.loader(sampler=Backwards(), batch_size=4))
    assert _ids(batches) == [[9, 9, 4, 4], [4, 0, 19]]
    lab.check(batches[0][0], lab.expected([9, 9, 4, 4], repeats=[0, 1, 0, 1]))
    lab.check(batches[1][0], lab.expected([4, 0, 19], repeats=[2, 0, 0]))
    assert not torch.equal(batches[0][0][0], batches[0][0][1])


def test_custom_batch_sampler(lab):
    """a batch sampler of the user: uneven batches"""
    wanted = [[3], [5, 5, 1, 0, 19, 7, 8], [2, 2]]
    batches = list(lab.loader(batch_sampler=wanted))
    assert _ids(batches) == wanted
    lab.check(batches[1][0], lab.expected(wanted[1], repeats=[0, 1, 0, 0, 0, 0, 0]))


def test_subset_and_concat(lab):
    """Subset and ConcatDataset"""
    whole = lab.dataset()
    parts = ConcatDataset([Subset(whole, [7, 3, 18]), Subset(whole, [0, 13])])
    loader = lab.loader(dataset=parts, batch_size=5)
    assert loader.explain().lifted
    ((images, labels),) = loader
    assert labels.tolist() == [7, 3, 18, 0, 13]
    assert images.shape == (5, 3, 32, 32)


@pytest.mark.parametrize("workers", [0, 1])
def test_folder_and_beton_together(lab, data):
    """a folder and a .beton in one ConcatDataset, if the backend claims that, else refused"""
    if "mixed" not in lab.claims.storage:
        with pytest.raises(BackendError, match="mixed"):
            iter(lab.loader(dataset=_mixed(data, lab.train)))
        return
    ((images, labels),) = lab.loader(dataset=_mixed(data, lab.train), batch_size=10)
    assert labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    lab.check(images[:5], lab.expected(range(5)))


def _mixed(data, transform):
    parts = FolderDataset(data.folders["ids"], transform), BetonDataset(data.betons["ids"], transform)
    return ConcatDataset([Subset(part, range(5)) for part in parts])


def test_target_transform(lab):
    """target_transform"""
    dataset = lab.dataset()
    dataset.target_transform = lambda label: 100 - label
    assert _flat(lab.loader(dataset=dataset)) == [100 - i for i in range(lab.num)]


RANK = """
    import os
    import torch.distributed as dist
    from fastpipe import DistributedSampler
    rank = int(sys.argv[2])
    dist.init_process_group("gloo", init_method="file://" + sys.argv[3], rank=rank, world_size=2)
    first = loader(1)
    ours = loader(3, sampler=DistributedSampler(first.dataset, seed=7))
    theirs = loader(3, sampler=torch.utils.data.DistributedSampler(first.dataset, seed=7))
    result = {}
    for name, each in (("ours", ours), ("theirs", theirs)):
        result[name] = []
        for epoch in range(2):
            each.sampler.set_epoch(epoch)
            batches = list(each)
            result[name].append([labels.tolist() for _, labels in batches])
        result[name + " sum"] = batches[0][0].double().sum().item()
    print(json.dumps(result))
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("workers", [1])
def test_distributed_sampler_in_two_processes(lab, tmp_path):
    """DistributedSampler in 2 processes (gloo): ours and torch's"""
    store = str(tmp_path / "store")
    ranks = [
        subprocess.Popen(
            lab.command(RANK, str(rank), store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    answers = []
    for rank in ranks:
        stdout, stderr = rank.communicate(timeout=200)
        assert rank.returncode == 0, stderr
        answers.append(json.loads(stdout.splitlines()[-1]))
    for epoch in range(2):
        together = [
            sorted(a + b) for a, b in zip(answers[0]["ours"][epoch], answers[1]["ours"][epoch], strict=True)
        ]
        order = lab.order(epoch)
        assert together == [sorted(order[i : i + 6]) for i in range(0, lab.num, 6)], (
            "global batch k holds what one process would have in it"
        )
        sampler = torch.utils.data.DistributedSampler(np.arange(lab.num), 2, 1, seed=7)
        sampler.set_epoch(epoch)
        assert [i for batch in answers[1]["theirs"][epoch] for i in batch] == list(sampler)
    single = lab.loader(batch_size=20, shuffle=True)
    single.set_epoch(1)
    images = {int(i): image for images, ids in single for i, image in zip(ids, images, strict=True)}
    first = answers[0]["ours"][1][0]
    alone = sum(images[i].double().sum().item() for i in first)
    assert answers[0]["ours sum"] == pytest.approx(alone, abs=1e-6), "the crops of one process"
