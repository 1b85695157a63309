"""Under `torch.set_default_device` batches and orders are what they are without it.

The device "meta" stands for a GPU: a draw that lands there cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data
from torch.utils.data import (
    DistributedSampler,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe.batch import host_draws
from fastpipe.batch.host_draws import draw_base_seed

LIFTED = transforms.Compose([transforms.RandomResizedCrop(16), transforms.PILToTensor()])
REFUSAL = "Expected a 'cuda' device type for generator but found 'cpu'"
NUM = 24
ORDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "shuffle": lambda: {"shuffle": True},
    "shuffle with a generator": lambda: {"shuffle": True, "generator": torch.Generator().manual_seed(3)},
    "in order": lambda: {"generator": torch.Generator().manual_seed(3)},
    "replacement": lambda: {"sampler": RandomSampler(range(NUM), replacement=True)},
    "subset": lambda: {"sampler": SubsetRandomSampler([5, 3, 1, 7, 9])},
    "weights": lambda: {"sampler": WeightedRandomSampler([1.0, 2.0, 3.0], 6)},
    "ranks": lambda: {"sampler": DistributedSampler(range(NUM), 2, 1)},  # type: ignore[arg-type]
    "single samples": lambda: {"sampler": DistributedSampler(range(NUM), 2, 0), "batch_size": None},  # type: ignore[arg-type]
}


class Moved:
    """The script's own step, so that nothing is lifted; it draws where the script's tensors live."""

    def __call__(self, image: Any) -> torch.Tensor:
        return torch.full((2,), float(image.size[0]), device="cpu")


@pytest.fixture
def on_meta() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def epochs(root: Path, transform: Any, order: Callable[[], dict[str, Any]], **options: Any) -> list[Any]:
    torch.manual_seed(11)
    dataset = ImageFolder(str(root), transform)
    dataset.samples = [(path, number) for number, (path, _) in enumerate(dataset.samples)]
    with torch.device("cpu"):
        arguments = {"batch_size": 4, **order(), **options}
    if isinstance(transform, Moved):
        arguments["collate_fn"] = list  # torch's own makes the labels a tensor of the default device
    loader = fastpipe.DataLoader(dataset, device="cpu", **arguments)
    batches = [batch for _ in range(2) for batch in loader]
    return [loader.state_dict(), batches, torch.get_rng_state().tolist()]


def as_lists(found: Any) -> Any:
    if isinstance(found, torch.Tensor):
        assert found.device.type == "cpu"
        return found.tolist()
    if isinstance(found, dict):
        return {name: as_lists(value) for name, value in found.items()}
    return [as_lists(value) for value in found] if isinstance(found, list | tuple) else found


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("order", ORDERS)
def test_orders_seeds_and_generators_are_the_same(photos: Path, order: str, workers: int) -> None:
    kinds = [Moved()] if order == "single samples" else [LIFTED, Moved()]
    for transform in kinds:
        make = ORDERS[order]
        expected = as_lists(epochs(photos, transform, make, num_workers=workers))
        torch.set_default_device("meta")
        try:
            found = as_lists(epochs(photos, transform, make, num_workers=workers))
        finally:
            torch.set_default_device(None)
        assert found == expected


def test_workers_that_stay_and_resume(photos: Path, on_meta: None) -> None:
    def loader() -> fastpipe.DataLoader[Any]:
        generator = torch.Generator("cpu").manual_seed(5)
        return fastpipe.DataLoader(
            photos,
            transform=LIFTED,
            batch_size=4,
            shuffle=True,
            num_workers=1,
            persistent_workers=True,
            generator=generator,
            device="cpu",
        )

    first = loader()
    list(first)
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    rest = [labels.tolist() for _, labels in batches]
    again = loader()
    again.load_state_dict(state)
    assert [labels.tolist() for _, labels in again] == rest


class Own(torch.utils.data.Sampler[int]):
    """A script's sampler, which says which default device it sees, and may raise."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[str] = []
        self.error = error

    def __iter__(self) -> Iterator[int]:
        self.seen.append(torch.get_default_device().type)
        if self.error is not None:
            raise self.error
        return iter(range(4))

    def __len__(self) -> int:
        return 4


@pytest.mark.parametrize(("transform", "batch_size"), [(LIFTED, 2), (Moved(), 2), (Moved(), None)])
def test_a_sampler_of_the_script_keeps_its_default_device(
    photos: Path, on_meta: None, transform: Any, batch_size: int | None
) -> None:
    sampler = Own()
    dataset = ImageFolder(str(photos), transform)
    collate = list if batch_size and transform is not LIFTED else None
    list(fastpipe.DataLoader(dataset, batch_size, sampler=sampler, collate_fn=collate, device="cpu"))
    assert sampler.seen == ["meta"]


@pytest.mark.parametrize("transform", [LIFTED, Moved()])
def test_what_torch_refuses_there_names_device_sampler_and_remedy(
    photos: Path, on_meta: None, transform: Any
) -> None:
    refusal = RuntimeError(REFUSAL)
    loader = fastpipe.DataLoader(ImageFolder(str(photos), transform), 2, sampler=Own(refusal), device="cpu")
    with pytest.raises(fastpipe.DefaultDeviceError) as raised:
        list(loader)
    assert raised.value.__cause__ is refusal and isinstance(raised.value, RuntimeError)
    for words in ("Own", "default device is 'meta'", REFUSAL, "device=g.device", "set_default_device('cpu')"):
        assert words in str(raised.value)


def test_another_error_and_another_default_device_leave_it_as_it_is(photos: Path) -> None:
    dataset = ImageFolder(str(photos), LIFTED)
    with pytest.raises(RuntimeError) as raised:  # the CPU is the default device: a bug of the script
        list(fastpipe.DataLoader(dataset, 2, sampler=Own(RuntimeError(REFUSAL)), device="cpu"))
    assert str(raised.value) == REFUSAL
    torch.set_default_device("meta")
    try:
        with pytest.raises(RuntimeError) as raised:
            list(fastpipe.DataLoader(dataset, 2, sampler=Own(RuntimeError("mine")), device="cpu"))
    finally:
        torch.set_default_device(None)
    assert str(raised.value) == "mine"


def test_a_draw_is_made_where_the_generator_is(monkeypatch: pytest.MonkeyPatch, on_meta: None) -> None:
    """A generator of a GPU draws there. There is none here: only the names are looked at."""
    made: list[tuple[str, str]] = []
    sampler = RandomSampler(range(3), generator=torch.Generator("cpu"))
    monkeypatch.setattr(host_draws, "_device_of", lambda generator: torch.device("cuda", 1))
    host_draws.drawn(sampler, lambda: made.append(("sampler", str(torch.get_default_device()))))
    monkeypatch.setattr(torch, "empty", lambda *shape, device, **rest: made.append(("seed", str(device))))
    with pytest.raises(AttributeError):  # of what the stand-in gave
        draw_base_seed(None)
    assert made == [("sampler", "cuda:1"), ("seed", "cuda:1")]
