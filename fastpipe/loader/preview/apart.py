"""Copies of what a preview runs, so that the loader itself draws, counts and remembers nothing of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from fastpipe.errors import ArgumentError
from fastpipe.loader.asked import Asked
from fastpipe.transforms.finalizers import class_with_del

# What holds samples is shared: it may be large, and nothing draws from it.
_DATA = (list, tuple, dict, str, bytes, np.ndarray, torch.Tensor)


def apart(asked: Asked) -> tuple[Asked, str]:
    """The same loader's arguments with copies of data set, samplers and generator, and no workers.

    Also a note, "" if everything could be copied. Raises ArgumentError for samplers that cannot be.
    """
    names = ("dataset", "sampler", "batch_sampler", "generator", "collate_fn")
    found = {name: getattr(asked, name) for name in names}
    note = ""
    try:
        _check_del(asked.dataset, asked.collate_fn)
        copies = copy.deepcopy(found, _shared(asked.dataset))
    except Exception as error:  # an open file, a lock, a generator: whatever the script holds
        note = f"the data set cannot be copied ({_words(error)}), so its own code sees the calls of a preview"
        kept = {id(value): value for value in (asked.dataset, asked.collate_fn)}
        try:
            copies = copy.deepcopy(found, kept)
        except Exception as reason:
            raise ArgumentError(
                f"a preview needs a copy of the sampler, so that the loader's own order is not used up. "
                f"Found: {type(asked.deciding_sampler).__name__}, which cannot be copied ({_words(reason)})"
            ) from reason
    own = replace(
        asked,
        num_workers=0,
        prefetch_factor=None,
        persistent_workers=False,
        multiprocessing_context=None,
        worker_init_fn=None,
        pin_memory=False,
        timeout=0.0,
        in_order=True,
        **copies,
    )
    return own, note


def _check_del(*own: Any) -> None:
    ending = class_with_del(*own)
    if ending is not None:
        raise TypeError(f"{ending.__qualname__} has a __del__, which would also run for the copy")


def _shared(dataset: Any) -> dict[int, Any]:
    """What a copy of the data set shares with it, by `id`, as `copy.deepcopy` takes it."""
    return {
        id(value): value
        for one in _inside(dataset)
        for value in getattr(one, "__dict__", {}).values()
        if isinstance(value, _DATA) and not _holds_datasets(one, value)
    }


def _inside(dataset: Any) -> Iterator[Any]:
    yield dataset
    inner = dataset.datasets if isinstance(dataset, ConcatDataset) else ()
    for one in (dataset.dataset,) if isinstance(dataset, Subset) else inner:
        yield from _inside(one)


def _holds_datasets(one: Any, value: Any) -> bool:
    return isinstance(one, ConcatDataset) and value is one.datasets


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
