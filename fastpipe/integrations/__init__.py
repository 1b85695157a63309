"""Hooks for clients that rebuild a torch loader from its attributes. Imports no client."""

from __future__ import annotations

import importlib
import itertools
import sys
import weakref
from typing import Any, Final

from fastpipe.batch.nested import batch_samplers

__all__ = ["PreparedMark", "remember", "source_of"]

# accelerate's module that rebuilds loaders, and our module that hooks into it.
_REBUILDER: Final = "accelerate.data_loader"
_OURS: Final = "fastpipe.integrations.accelerate"
_numbers = itertools.count()
_live: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class PreparedMark:
    """accelerate reads this attribute of a loader right before it rebuilds it: the moment to step in.

    As with torch's loaders, the attribute does not exist until it is set on the instance.
    """

    def __get__(self, loader: Any, kind: type | None = None) -> Any:
        if loader is not None and not remember(loader):
            importlib.import_module(_OURS).warn_unserved(loader)
        raise AttributeError("_is_accelerate_prepared")


def remember(loader: Any) -> bool:
    """Let a client that rebuilds this loader find it again. False if an imported client cannot be served."""
    if "on_error" not in vars(loader):
        return True  # torchdata's class, if a script has replaced torch's by ours: not made by us
    if not any(one is loader for one in list(_live.values())):
        _live[next(_numbers)] = loader
    return _REBUILDER not in sys.modules or bool(importlib.import_module(_OURS).install())


def source_of(dataset: Any, batch_sampler: Any) -> Any:
    """The youngest live loader over `dataset` whose batches `batch_sampler` takes, or None.

    Without a batch sampler (batch_size=None, an IterableDataset) the youngest one over the data set.
    """
    loaders = [_live[number] for number in sorted(_live, reverse=True) if number in _live]
    loaders = [loader for loader in loaders if loader.dataset is dataset]
    if batch_sampler is None:
        return next(iter(loaders), None)
    for wanted in batch_samplers(batch_sampler):
        for loader in loaders:
            if loader.batch_sampler is wanted:
                return loader
    return None
