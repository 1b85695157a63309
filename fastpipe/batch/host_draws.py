"""The draws of an order and of its seed, under `torch.set_default_device` too.

torch draws both with a generator, in tensors of the script's default device. A generator belongs to the CPU
unless another was chosen, and it cannot fill a tensor of another device. So these draws are made on the
generator's device, as if there were no default device. The script's own samplers keep the default device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import torch
import torch.utils.data
from torch.overrides import TorchFunctionMode
from torch.utils.data import dataloader as torchs

from fastpipe.errors import DefaultDeviceError

__all__ = ["Seeded", "draw_base_seed"]

T = TypeVar("T")

_TORCHS: Final = (
    torch.utils.data.DistributedSampler,
    torch.utils.data.RandomSampler,
    torch.utils.data.SubsetRandomSampler,
    torch.utils.data.WeightedRandomSampler,
)
_REFUSED: Final = "device type for generator"  # in torch's message about a generator of another device
_CPU: Final = torch.device("cpu")


def draw_base_seed(generator: torch.Generator | None) -> int:
    """The seed that torch's iterators draw from this generator, None for torch's global one of the CPU."""
    number = torch.empty((), dtype=torch.int64, device=_device_of(generator))
    return int(number.random_(generator=generator).item())


def drawn(sampler: Any, draw: Callable[[], T]) -> T:
    """The result of `draw`, which runs the code of `sampler`. DefaultDeviceError if torch refuses."""
    if torch.get_default_device().type == "cpu":
        return draw()
    inner = _innermost(sampler)
    try:
        if type(inner) not in _TORCHS:
            return draw()
        with _device_of(getattr(inner, "generator", None)):
            return draw()
    except RuntimeError as error:
        if _REFUSED not in str(error) or isinstance(error, DefaultDeviceError):
            raise
        raise DefaultDeviceError(_refusal(inner, error)) from error


def batches_of(batches: Iterable[T]) -> Iterator[T]:
    """The batches of a batch sampler, each one `drawn`."""
    return _Batches(batches)


class _Batches(Iterator[Any]):
    def __init__(self, batches: Iterable[Any]) -> None:
        self._sampler = batches
        self._iterator: Iterator[Any] = drawn(batches, partial(iter, batches))

    def __next__(self) -> Any:
        return drawn(self._sampler, self._iterator.__next__)


class Seeded(torchs._BaseDataLoaderIter):
    """Sits between torch's iterators and their base class: base seed and ids are drawn on the host."""

    def __init__(self, loader: Any) -> None:
        make = partial(super().__init__, loader)
        if torch.get_default_device().type == "cpu":
            make()
            return
        with _SeedWhereItsGeneratorIs(loader.generator):
            drawn(loader._index_sampler, make)

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        drawn(self._index_sampler, partial(super()._reset, loader, first_iter))

    def _next_index(self) -> Any:
        return drawn(self._index_sampler, super()._next_index)


class _SeedWhereItsGeneratorIs(TorchFunctionMode):
    """Gives a device to the one tensor that torch draws its base seed in, and to no other."""

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self._device = _device_of(generator)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.empty and args == ((),) and kwargs == {"dtype": torch.int64}:
            return torch.empty((), dtype=torch.int64, device=self._device)
        return func(*args, **(kwargs or {}))


def _device_of(generator: torch.Generator | None) -> torch.device:
    return _CPU if generator is None else generator.device


def _innermost(sampler: Any) -> Any:
    """The sampler whose code draws the ids, inside torch's own batch samplers."""
    while type(sampler) is torch.utils.data.BatchSampler:
        sampler = sampler.sampler
    return sampler


def _refusal(sampler: Any, error: Exception) -> str:
    name, default = type(sampler).__name__, repr(str(torch.get_default_device()))
    return (
        f"{name} cannot draw ids while the default device is {default}: torch says {str(error)!r}. "
        f"torch.set_default_device({default}) moves each tensor that {name} makes without device=, but not "
        "its generator. Pass the device there, as in torch.randperm(n, generator=g, device=g.device), or "
        f"draw with a generator of that device, torch.Generator({default}), or call "
        "torch.set_default_device('cpu') before the sampler is made"
    )
