"""Checks of the loader's own arguments; torch checks its seventeen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.data

from fastpipe.backends.registry import BACKENDS
from fastpipe.device.engines.protocol import ENGINES
from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.storage import adopted, open_images
from fastpipe.system.machine import this_machine, worker_count

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_FORMATS = (torch.contiguous_format, torch.channels_last)


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise ArgumentError unless `value` is one of `allowed`."""
    if value not in allowed:
        listed = ", ".join(repr(one) for one in allowed)
        raise ArgumentError(f"{name} must be one of {listed}. Found: {value!r}")


def check_loader_arguments(
    *,
    dataset: Any,
    backend: Any,
    engine: Any,
    numerics: Any,
    dtype: Any,
    memory_format: Any,
    on_error: Any,
    num_classes: Any,
    quarantine: Any = None,
    max_bad: Any = 0.01,
) -> None:
    """Raise ArgumentError for a value that is wrong for every data set."""
    check_choice("backend", backend, ("auto", "torch", *BACKENDS))
    _check_engine(engine)
    check_choice("numerics", numerics, (None, "exact", "fast"))
    check_choice("dtype", dtype, (None, *_DTYPES))
    check_choice("memory_format", memory_format, _FORMATS)
    check_choice("on_error", on_error, ("raise", "skip", "replace"))
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
        raise ArgumentError(f"num_classes must be an int >= 1. Found: {num_classes!r}")
    if num_classes is not None and num_classes < 1:
        raise ArgumentError(f"num_classes must be an int >= 1. Found: {num_classes!r}")
    _check_quarantine(quarantine, max_bad)
    if on_error == "raise":
        return
    if isinstance(dataset, torch.utils.data.IterableDataset):
        raise ArgumentError(
            f"on_error={on_error!r} needs a map-style data set, since an IterableDataset has no ids"
        )
    check_group(on_error)


def check_group(on_error: str) -> None:
    """Raise ArgumentError for "skip" if a process group exists, even one made after the loader."""
    if on_error == "skip" and torch.distributed.is_available() and torch.distributed.is_initialized():
        raise ArgumentError(
            "on_error='skip' makes batches shorter on one rank only, which hangs collectives. "
            "Use on_error='replace' in a process group"
        )


def _check_engine(engine: Any) -> None:
    if engine == "dali":
        raise ArgumentError(
            f"engine must be one of {', '.join(map(repr, ENGINES))}. Found: 'dali', which is no engine: its "
            f"augmentations draw their own numbers, so changing the backend would change the experiment. "
            f"Pass backend='dali' to decode with DALI and leave the augmentations to the engine"
        )
    check_choice("engine", engine, ENGINES)


def _check_quarantine(quarantine: Any, max_bad: Any) -> None:
    if quarantine is True or not isinstance(quarantine, str | os.PathLike | bool | None):
        raise ArgumentError(
            f"quarantine must be a path, None (a list in the cache directory) or False (no list). "
            f"Found: {quarantine!r}"
        )
    if isinstance(max_bad, bool) or not isinstance(max_bad, int | float) or not 0 < max_bad <= 1:
        raise ArgumentError(
            f"max_bad must be a share in (0, 1]; to allow none, use on_error='raise'. Found: {max_bad!r}"
        )


def warn_without_effect(quarantine: Any, on_error: Any) -> None:
    """Warn of arguments that others make useless; the warning points at the script's line."""
    if quarantine and on_error == "raise":
        warnings.warn(
            "quarantine has no effect with on_error='raise': pass on_error='skip' or 'replace'",
            NoEffectWarning,
            stacklevel=3,
        )


def open_dataset(dataset: Any, transform: Callable[[Any], Any] | None) -> Any:
    """The data set itself, or what lies at a path or in a TensorDataset, with `transform` in it."""
    if isinstance(dataset, str | os.PathLike):
        if transform is None:
            raise ArgumentError(
                "transform must be given with a path: a torchvision pipeline ending in ToTensor. Found: None"
            )
        return open_images(dataset, transform)
    if transform is None or getattr(dataset, "transform", None) is transform:
        return dataset
    opened = adopted(dataset, transform)
    if opened is None:
        raise ArgumentError(f"transform must only be given with a path. {_place_of_transform(dataset)}")
    return opened


def _place_of_transform(dataset: Any) -> str:
    """How to give a transform to an existing data set."""
    name = type(dataset).__name__
    if hasattr(dataset, "transform"):
        return f"{name} has its own transform: leave the argument out and set dataset.transform"
    if callable(getattr(dataset, "set_transform", None)):  # datasets.Dataset, of Hugging Face
        return f"Leave it out and give {name} one that takes a dict of columns: dataset.set_transform(...)"
    return f"Leave it out and apply it in the data set's __getitem__: {name} takes no transform"


class ResolutionPolicy:
    """The crop size of each batch: the argument, or the latest value from `set_resolution`."""

    def __init__(self, given: int | Callable[[int, int], int] | None) -> None:
        if given is not None and not callable(given):
            _check_size(given)
        self.given = given
        self.override: int | None = None

    @property
    def active(self) -> bool:
        """Whether the size of batches differs from the transform's."""
        return self.given is not None or self.override is not None

    def set(self, size: int | None) -> None:
        """Use this size from now on; None restores the argument."""
        self.override = None if size is None else _check_size(size)

    def __call__(self, epoch: int, batch: int) -> int | None:
        """The size of one batch, or None for the transform's own."""
        if self.override is not None:
            return self.override
        if callable(self.given):
            return _check_size(self.given(epoch, batch))
        return self.given


def _check_size(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(
            f"resolution must be an int >= 1, or a function that returns one. Found: {size!r}"
        )
    return size


def resolve_workers(num_workers: int | str, dataset: Any) -> int:
    """torch's number for `num_workers`: "auto" is this rank's share of the CPUs.

    0 for an IterableDataset, because every worker would yield the whole data.
    """
    if num_workers != "auto" and not isinstance(num_workers, AutoWorkers):
        if isinstance(num_workers, str):
            raise ArgumentError(f"num_workers must be an int >= 0 or 'auto'. Found: {num_workers!r}")
        return num_workers
    if isinstance(dataset, torch.utils.data.IterableDataset):
        return AutoWorkers(0)
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return AutoWorkers(worker_count(this_machine().cpus, int(ranks) if ranks.isdigit() else 1))


class AutoWorkers(int):
    """The number that num_workers="auto" resolved to: an int to torch, accelerate and Lightning.

    A loader rebuilt from the attribute is "auto" again and counts the CPUs available then.
    """

    def __repr__(self) -> str:
        return f"auto ({int(self)})"

    def __eq__(self, other: object) -> bool:
        return other == "auto" or int(self) == other

    __hash__ = int.__hash__
