"""What was asked is one frozen value: attributes that a script sets take effect, wrong ones are refused."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset
from torchvision import transforms

from fastpipe import ArgumentError, DataLoader
from fastpipe.loader.asked import Asked

TRANSFORM = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])


@pytest.fixture
def loader(labelled: Callable[..., Any]) -> DataLoader[Any]:
    return DataLoader(labelled("torchvision", TRANSFORM), batch_size=8)


def test_an_attribute_set_by_the_script_takes_effect(loader: DataLoader[Any]) -> None:
    assert next(iter(loader))[0].dtype == torch.float32
    loader.dtype = torch.float16
    images, _ = next(iter(loader))
    assert images.dtype == torch.float16
    loader.memory_format = torch.channels_last
    images, _ = next(iter(loader))
    assert images.is_contiguous(memory_format=torch.channels_last)
    loader.num_workers, loader.prefetch_factor = 1, 2
    iterator: Any = iter(loader)
    assert len(iterator._workers) == 1
    assert torch.equal(next(iterator)[0], images)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("on_error", "ignore", "on_error must be one of 'raise', 'skip', 'replace'. Found: 'ignore'"),
        ("seed", -1, "seed must be"),
        ("max_bad", 0, "max_bad must be a share in"),
        ("engine", "dali", "engine must be one of"),
        ("dtype", torch.int32, "dtype must be one of"),
    ],
)
def test_a_wrong_attribute_is_refused_and_not_kept(
    loader: DataLoader[Any], name: str, value: Any, words: str
) -> None:
    before = getattr(loader, name)
    with pytest.raises(ArgumentError, match=words):
        setattr(loader, name, value)
    assert getattr(loader, name) == before
    assert len(next(iter(loader))[0]) == 8


def test_a_copy_goes_its_own_way(loader: DataLoader[Any]) -> None:
    other = copy.copy(loader)
    other.dtype = torch.float16
    assert next(iter(loader))[0].dtype == torch.float32
    assert next(iter(other))[0].dtype == torch.float16


def test_the_value_itself_cannot_be_changed(loader: DataLoader[Any]) -> None:
    asked = Asked.of(loader)
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.on_error = "skip"  # type: ignore[misc]
    assert asked.index_sampler is loader.batch_sampler and asked.batched and not asked.iterable


def test_a_seed_for_an_iterable_data_set_is_refused() -> None:
    class Numbers(IterableDataset[int]):
        def __iter__(self) -> Any:
            return iter(range(3))

    with pytest.raises(ArgumentError, match="an IterableDataset has no ids"):
        DataLoader(Numbers(), seed=1)
