"""The sources of randomness of an epoch's order, and how to draw it again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.utils.data
from torch.utils.data import BatchSampler

from fastpipe.batch import (
    DistributedEvalSampler,
    DistributedSampler,
    PageLocalSampler,
    RepeatAugSampler,
    SeededSampler,
)
from fastpipe.loader.asked import Asked

# Functions of seed and epoch, or of nothing.
_FIXED = (
    torch.utils.data.SequentialSampler,
    torch.utils.data.DistributedSampler,
    SeededSampler,
    DistributedSampler,
    DistributedEvalSampler,
    PageLocalSampler,
    RepeatAugSampler,
)
# These draw from their `generator`, or from torch's global one, whose state is saved.
_DRAWING = (
    torch.utils.data.RandomSampler,
    torch.utils.data.SubsetRandomSampler,
    torch.utils.data.WeightedRandomSampler,
)


def _samplers(asked: Asked) -> list[Any]:
    """The samplers that decide the order, from the outermost to the innermost.

    Only torch's own BatchSampler is looked into; a subclass may use its sampler in any way.
    """
    chain = [asked.index_sampler]
    while type(chain[-1]) is BatchSampler:
        chain.append(chain[-1].sampler)
    return chain


def _stateful(sampler: Any) -> bool:
    return hasattr(sampler, "state_dict") and hasattr(sampler, "load_state_dict")


def _owner_of_state(asked: Asked) -> Any:
    """The sampler with the two methods of torchdata's Stateful, else None."""
    chain = _samplers(asked)
    inner = getattr(chain[-1], "sampler", None)  # the script's own batch sampler, as torchdata looks for it
    return next((one for one in (*chain, inner, asked.sampler) if _stateful(one)), None)


def order_is_replayable(asked: Asked) -> bool:
    """Whether a state can hold all that the order depends on.

    True for the samplers of fastpipe and torch, a list of ids or batches, and samplers that save their
    state. Any other sampler may draw from anywhere.
    """
    last = _samplers(asked)[-1]
    if _owner_of_state(asked) is not None:
        return True
    return type(last) in (*_FIXED, *_DRAWING, list, tuple, range)


def order_generator_state(asked: Asked) -> torch.Tensor | None:
    """The state of the generator that torch's sampler will draw from, uint8.

    None for a sampler that draws nothing, and if the generator is the loader's, whose state is saved.
    """
    last = _samplers(asked)[-1]
    if type(last) not in _DRAWING:
        return None
    own = last.generator
    if asked.seed is None and own is asked.generator:
        return None
    return torch.get_rng_state() if own is None else own.get_state()


def sampler_state(asked: Asked) -> Any:
    """The state of a stateful sampler, else None."""
    owner = _owner_of_state(asked)
    return None if owner is None else owner.state_dict()


def restore_sampler(asked: Asked, state: Any) -> None:
    """Restore the state of a stateful sampler."""
    owner = _owner_of_state(asked)
    if state is not None and owner is not None:
        owner.load_state_dict(state)


def draws_base_seed(saved: Mapping[str, Any], asked: Asked) -> bool:
    """Whether a replay draws the workers' base seed, from a generator that is restored for it.

    Otherwise the replay leaves it out: the draw was never made, or its generator is not restored.
    """
    last = _samplers(asked)[-1]
    shared = type(last) in _DRAWING and last.generator is None and asked.generator is None
    put_back = saved["generator"] is not None or (shared and saved.get("order_generator") is not None)
    return bool(saved["drew_base_seed"]) and put_back


@contextlib.contextmanager
def replayed(saved: Mapping[str, Any] | None, asked: Asked) -> Iterator[None]:
    """Let the loader and its sampler repeat the draws made at the start of the saved epoch.

    Their own generators keep the state that this leaves; torch's global one is restored.
    """
    if saved is None:
        yield
        return
    before = torch.get_rng_state()
    try:
        _rewind(saved, asked)
        yield
    finally:
        torch.set_rng_state(before)


def _rewind(saved: Mapping[str, Any], asked: Asked) -> None:
    if saved["generator"] is not None:
        _set(asked.generator, saved["generator"])
    last = _samplers(asked)[-1]
    if saved.get("order_generator") is not None and type(last) in _DRAWING:
        _set(last.generator, saved["order_generator"])


def _set(generator: torch.Generator | None, state: torch.Tensor) -> None:
    if generator is None:
        torch.set_rng_state(state)
    else:
        generator.set_state(state)
