"""What is known of a loader of the script."""

from __future__ import annotations

import multiprocessing
import sys
import weakref
from dataclasses import dataclass
from typing import Any

from torch.utils.data import RandomSampler

import fastpipe
from fastpipe.backends import registry
from fastpipe.batch import SeededSampler
from fastpipe.loader.explain import Explanation
from fastpipe.profiling.observe.sites import Site, sites_of


@dataclass(slots=True)
class LoaderFacts:
    """The known facts about a loader of the script. The data set is released when the report is made.

    plan: that of fastpipe's loader at the start of its first epoch: what it lifted, and its backend. threads:
    that backend uses threads of this process instead of worker processes. sites: see `sites_of`.
    """

    number: int
    kind: str
    dataset: Any
    collate_fn: Any
    batch_size: int | None
    num_workers: int
    start_method: str
    pin_memory: bool
    persistent: bool
    batched: bool = True  # False: batch_size=None, samples come one by one
    epochs: int = 0
    shuffles: bool = False
    ours: bool = False
    plan: Explanation | None = None
    threads: bool = False
    sites: tuple[Site, ...] = ()
    name: str = ""  # by its sites, once all loaders are known
    target: str = ""  # what the script assigns it to

    @property
    def backend(self) -> str | None:
        """The backend of fastpipe's that serves it; None for torch's own code."""
        return None if self.plan is None or self.plan.choice is None else self.plan.choice.backend

    @property
    def makers(self) -> str:
        """What makes its batches, in words."""
        if not self.num_workers:
            return "the script's own process"
        kind = "thread" if self.threads else "worker"
        return f"{self.num_workers} {kind}{'s' * (self.num_workers != 1)}"

    def learn(self, loader: Any) -> None:
        """Ask fastpipe's loader for its plan; its first iterator exists, so this measures nothing."""
        self.plan = loader.explain()
        if self.backend is not None:
            self.threads = registry.load(self.backend).capabilities.workers == "threads"
        self.start_method = "" if self.threads else self.start_method


def is_ours(loader: Any) -> bool:
    """Whether it is fastpipe's loader."""
    return isinstance(loader, fastpipe.DataLoader)


def _facts(number: int, loader: Any, sites: tuple[Site, ...]) -> LoaderFacts:
    """The facts from its attributes."""
    context = loader.multiprocessing_context
    ours = is_ours(loader)
    name = f"{type(loader).__name__} over {type(loader.dataset).__name__}"
    return LoaderFacts(
        number=number,
        kind=f"fastpipe.{name}" if ours else name,
        dataset=loader.dataset,
        collate_fn=loader.collate_fn,
        batch_size=loader.batch_size if loader.batch_size is not None else _size(loader.batch_sampler),
        num_workers=int(loader.num_workers),
        start_method="" if not loader.num_workers else (context or multiprocessing).get_start_method(),
        pin_memory=loader.pin_memory,
        persistent=loader.persistent_workers,
        batched=loader.batch_sampler is not None,
        shuffles=_shuffles(loader.sampler) or _shuffles(getattr(loader.batch_sampler, "sampler", None)),
        ours=ours,
        sites=sites,
    )


def _size(batch_sampler: Any) -> int | None:
    size = getattr(batch_sampler, "batch_size", None)
    return size if isinstance(size, int) else None


def _shuffles(sampler: Any) -> bool:
    """Whether the order differs between epochs, as far as can be known."""
    return isinstance(sampler, RandomSampler | SeededSampler) or getattr(sampler, "shuffle", False) is True


class Register:
    """The script's loaders by number, in the order of their first read."""

    def __init__(self) -> None:
        self.facts: dict[int, LoaderFacts] = {}
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._sites: weakref.WeakKeyDictionary[Any, tuple[Site, ...]] = weakref.WeakKeyDictionary()

    def made(self, loader: Any) -> None:
        """It is being made, by the lines that led here."""
        self._sites[loader] = sites_of(loader)

    def number(self, loader: Any) -> int:
        """Its number, a new one for one not seen before."""
        number = self._numbers.get(loader)
        if number is None:
            number = self._numbers[loader] = len(self.facts)
            # A loader not made here (a copy, from a pickle) is named by the line that first reads it.
            self.facts[number] = _facts(number, loader, self._sites.get(loader) or sites_of(loader))
        return number

    def learn(self, number: int, loader: Any) -> None:
        """Ask fastpipe's loader what it does."""
        try:
            self.facts[number].learn(loader)
        except Exception as error:  # of the script's data set; observing must not end the script
            sys.stderr.write(f"fastpipe-profile: loader {number} does not explain itself: {error}\n")
