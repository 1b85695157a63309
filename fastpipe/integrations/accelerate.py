"""Loaders rebuilt by accelerate's `prepare()` and `skip_first_batches()` stay fastpipe loaders.

accelerate copies sixteen attributes of a loader into a plain torch one; `install()` makes it build ours.
Imported only if accelerate is already imported. The reasons are in docs/design/011-clients.md.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastpipe.batch import SeededSampler
from fastpipe.batch.nested import deciding_sampler
from fastpipe.integrations import source_of
from fastpipe.integrations.prepared import PreparedLoader, TorchLoader, asked
from fastpipe.loader import DataLoader


def _rebuilt(dataset: Any, arguments: Mapping[str, Any]) -> Any:
    """Our loader instead of accelerate's plain one, or None, with a warning if something is lost."""
    batch_sampler = arguments.get("batch_sampler")
    wrapped = getattr(dataset, "dataset", None) if type(dataset).__name__ == "IterableDatasetShard" else None
    source = source_of(dataset if wrapped is None else wrapped, batch_sampler)
    if source is None:
        return None
    if batch_sampler is None:
        _warn_of_loss(source, "it has no batch sampler for accelerate to deal out")
        return None
    if type(source) not in (DataLoader, PreparedLoader):
        kind = type(source).__name__
        warnings.warn(
            f"accelerate rebuilds the {kind} as fastpipe.DataLoader: what {kind} adds is lost", stacklevel=6
        )
    return PreparedLoader(source, dataset, **arguments)


def _warn_of_loss(source: DataLoader[Any], why: str) -> None:
    lost = asked(source)
    if lost:
        warnings.warn(
            f"accelerate's prepare() makes this fastpipe.DataLoader a plain torch loader, because {why}: "
            f"{', '.join(f'{name}={getattr(source, name)!r}' for name in lost)} is lost",
            stacklevel=7,
        )


class _AnyLoader(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, TorchLoader)


class _Door(metaclass=_AnyLoader):
    """Replaces torch's DataLoader in accelerate's module: makes ours when one of ours is rebuilt."""

    def __new__(cls, dataset: Any, *positional: Any, **arguments: Any) -> Any:
        found = None if positional else _rebuilt(dataset, arguments)
        return TorchLoader(dataset, *positional, **arguments) if found is None else found


def install() -> bool:
    """Hook into accelerate's rebuilding of loaders, once. False: this accelerate rebuilds in another way."""
    module: Any = sys.modules["accelerate.data_loader"]
    adapter = getattr(module, "DataLoaderAdapter", None)
    if adapter is None:
        return False
    if module.DataLoader is not _Door:
        module.DataLoader = _Door
        adapter.__init__ = _keeping_ours(adapter.__init__)
        module.DataLoaderDispatcher.__init__ = _dispatching(module.DataLoaderDispatcher.__init__)
        for kind in (module.DataLoaderShard, module.DataLoaderDispatcher):
            kind.set_epoch = _heard(kind.set_epoch)
            kind.set_sampler = _unless_seeded(kind.set_sampler)
    return True


def warn_unserved(loader: Any) -> None:
    """Warn about the losses with an accelerate that cannot be hooked."""
    version = sys.modules["accelerate"].__version__
    _warn_of_loss(loader, f"accelerate {version} has no DataLoaderAdapter: install accelerate>=1.0")


def _keeping_ours(init: Callable[..., None]) -> Callable[..., None]:
    """Also when accelerate makes torchdata's StatefulDataLoader: our loader has its own state."""

    @functools.wraps(init)
    def made(
        self: Any, dataset: Any, use_stateful_dataloader: bool = False, batch_sampler: Any = None, **rest: Any
    ) -> None:
        init(
            self,
            dataset,
            use_stateful_dataloader=use_stateful_dataloader,
            batch_sampler=batch_sampler,
            **rest,
        )
        if use_stateful_dataloader:
            ours = _rebuilt(dataset, {"batch_sampler": batch_sampler, **rest})
            if ours is not None:
                self.base_dataloader = ours
                self.dl_state_dict = ours.state_dict()

    return made


def _dispatching(init: Callable[..., None]) -> Callable[..., None]:
    """If one rank loads for all, the others receive less: compensate for it, or warn."""

    @functools.wraps(init)
    def made(self: Any, *positional: Any, **arguments: Any) -> None:
        init(self, *positional, **arguments)
        if isinstance(self.base_dataloader, PreparedLoader):
            _warn_of_dispatch(self.base_dataloader)
            self.slice_fn = _laid_out_after(self.slice_fn, self.base_dataloader)

    return made


def _laid_out_after(slice_fn: Callable[..., Any], loader: PreparedLoader) -> Callable[..., Any]:
    """Ranks receive a batch into contiguous memory, byte by byte; another layout is made afterwards."""
    layout, loader.memory_format = loader.memory_format, torch.contiguous_format
    return slice_fn if layout is torch.contiguous_format else functools.partial(_sliced, slice_fn, layout)


def _sliced(slice_fn: Callable[..., Any], layout: torch.memory_format, *batch: Any, **rank: Any) -> Any:
    images, *rest = slice_fn(*batch, **rank)
    return [images.contiguous(memory_format=layout), *rest]


def _warn_of_dispatch(loader: PreparedLoader) -> None:
    plan = loader.planned().plan
    mixed = plan is not None and any(step.kind == "mix" for step in plan.device)
    if mixed and loader.engine != "none":
        warnings.warn(
            "dispatch_batches=True sends only slices of images and labels: the batches have no "
            "hard_labels, partner and weight",
            stacklevel=7,
        )
    if plan is not None and loader.engine == "none":
        warnings.warn(
            "dispatch_batches=True cannot send the parameters of engine='none': accelerate will raise at "
            "the first batch. Use dispatch_batches=False",
            stacklevel=7,
        )


def _heard(set_epoch: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    """accelerate's set_epoch reaches only samplers; this makes it reach our loader too."""

    @functools.wraps(set_epoch)
    def say(self: Any, epoch: int) -> None:
        set_epoch(self, epoch)
        if isinstance(self.base_dataloader, PreparedLoader):
            self.base_dataloader.epochs.said.append(int(epoch))

    return say


def _unless_seeded(set_sampler: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """use_seedable_sampler=True makes an order repeatable, which `seed=` already does."""

    @functools.wraps(set_sampler)
    def keep(self: Any, sampler: Any) -> None:
        inner = deciding_sampler(None, self.batch_sampler)
        replaces = type(sampler).__name__ == "SeedableRandomSampler" and isinstance(inner, SeededSampler)
        if not replaces:
            set_sampler(self, sampler)

    return keep
