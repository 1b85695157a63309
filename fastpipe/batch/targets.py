"""A script's `target_transform` for backends without worker processes: it runs in the script's thread."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastpipe.batch.drawing import Labels
from fastpipe.batch.locate import label_at, leaves, locate
from fastpipe.batch.worker import own_generators, reseed
from fastpipe.rng import Stream, integer_seeds
from fastpipe.types import Request

__all__ = ["thread_labels"]


def thread_labels(dataset: Any, *, keyed: bool) -> Labels | None:
    """Makes the labels of a request; None if no part of the data set has a `target_transform`.

    In a separate thread, a transform that uses a global generator would draw from the script's.
    keyed: it draws from the sample's own key instead, as in a worker process; else from the current state of
    the script's generators, as torch's loader does with num_workers=0.
    """
    if all(leaf.target_transform is None for leaf in leaves(dataset)):
        return None
    return partial(_keyed if keyed else _as_they_are, dataset)


def _as_they_are(dataset: Any, request: Request) -> tuple[Any, ...]:
    return tuple(_label(dataset, request, place) for place in range(len(request.ids)))


def _keyed(dataset: Any, request: Request) -> tuple[Any, ...]:
    seeds = integer_seeds(request.seed, request.epoch, request.ids, request.repeats, Stream.HOST)
    labels = []
    with own_generators():
        for place, seed in enumerate(seeds.tolist()):
            reseed(seed)
            try:
                labels.append(_label(dataset, request, place))
            except SystemExit as error:  # would end a torch worker, not the script
                raise RuntimeError("the target_transform was ended by SystemExit") from error
    return tuple(labels)


def _label(dataset: Any, request: Request, place: int) -> Any:
    leaf, index = locate(dataset, int(request.ids[place]))
    return label_at(request, place, leaf, leaf.label(index))
