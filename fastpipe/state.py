"""What a loader saves and loads: a small dictionary of plain values, whatever the position or data set.

It loads with `torch.load(..., weights_only=True)`. Data is never replayed: only the ids of the batches
already delivered are drawn again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from fastpipe.epoch import Position
from fastpipe.errors import StateError
from fastpipe.sources import numerics_of

__all__ = [
    "STATE_VERSION",
    "EpochClock",
    "check_state",
    "make_state",
    "order_fingerprint",
    "replayed",
    "sampler_state",
]

STATE_VERSION = 1
_KEYS = (
    "version",
    "seed",
    "epoch",
    "delivered",
    "finished",
    "batch_size",
    "world_size",
    "order",
    "resumable",
)


class EpochClock:
    """The epoch at hand: `sampler.epoch` if there is one, else set_epoch's, else the number of iter()."""

    def __init__(self) -> None:
        self._said: int | None = None
        self._started = 0

    def now(self, *samplers: Any) -> int:
        """The epoch of the next `iter()`."""
        for sampler in samplers:
            for owner in (sampler, getattr(sampler, "sampler", None)):
                epoch = getattr(owner, "epoch", None)
                if isinstance(epoch, int):
                    return epoch
        return self._started if self._said is None else self._said

    def start(self, *samplers: Any) -> int:
        """The epoch that begins now."""
        epoch = self.now(*samplers)
        self._started = epoch + 1
        return epoch

    def set(self, epoch: int, *samplers: Any) -> None:
        """What `set_epoch` said."""
        self._said = int(epoch)
        _set_samplers(self._said, samplers)

    def resume(self, state: Mapping[str, Any], *samplers: Any) -> None:
        """Go on with a saved epoch, or with the one after it if it was finished."""
        epoch = int(state["epoch"]) + int(state["finished"])
        self._started = epoch
        if self._said is not None:
            self._said = epoch
        _set_samplers(epoch, samplers)


def _set_samplers(epoch: int, samplers: tuple[Any, ...]) -> None:
    for sampler in samplers:
        for owner in (sampler, getattr(sampler, "sampler", None)):
            set_epoch = getattr(owner, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)


@contextlib.contextmanager
def replayed(saved: Mapping[str, Any] | None, generator: torch.Generator | None) -> Iterator[None]:
    """Let the sampler draw what it drew at the start of the saved epoch.

    A generator of the loader's own stays where that leaves it; torch's global one is put back.
    """
    if saved is None or saved["generator"] is None:
        yield
        return
    if generator is not None:
        generator.set_state(saved["generator"])
        yield
        return
    before = torch.get_rng_state()
    torch.set_rng_state(saved["generator"])
    try:
        yield
    finally:
        torch.set_rng_state(before)


def sampler_state(sampler: Any) -> Any:
    """What a sampler with the two methods of torchdata's Stateful says of itself, else None."""
    if hasattr(sampler, "state_dict") and hasattr(sampler, "load_state_dict"):
        return sampler.state_dict()
    return None


def make_state(
    loader: Any, position: Position | None, clock: EpochClock, *, resumable: bool
) -> dict[str, Any]:
    """The state of a loader whose latest iterator is at `position` (None: it has not begun)."""
    if position is None:
        epoch = clock.now(loader.sampler, loader.batch_sampler)
        position = Position(epoch=epoch, sampler=sampler_state(loader.sampler))
    sized = loader._dataset_kind == torch.utils.data._DatasetKind.Map
    return {
        "version": STATE_VERSION,
        "seed": loader.seed,
        "base_seed": position.base_seed,
        "drew_base_seed": position.drew_base_seed,
        "epoch": position.epoch,
        "delivered": position.num_delivered(),
        "finished": position.finished,
        "batch_size": loader.batch_size or getattr(loader.batch_sampler, "batch_size", None),
        "world_size": _world_size(loader.sampler, loader.batch_sampler),
        "order": order_fingerprint(loader.sampler, len(loader.dataset) if sized else -1, loader.seed),
        "backend": loader.backend,
        "chosen": loader._supply.backend,
        "numerics": numerics_of(loader),
        "resumable": resumable,
        "sampler": sampler_state(loader.sampler) if position.finished else position.sampler,
        "generator": None if loader.seed is not None else position.generator,
    }


def _world_size(*samplers: Any) -> int:
    """The ranks that the sampler deals to; without such a sampler, those of the process group."""
    for sampler in samplers:
        for owner in (sampler, getattr(sampler, "sampler", None)):
            num = getattr(owner, "num_replicas", None)
            if isinstance(num, int):
                return num
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def order_fingerprint(sampler: Any, num_samples: int, seed: int | None) -> str:
    """A hash of what decides the order, except the batch size and the world size."""
    text = f"{type(sampler).__name__}|{num_samples}|{seed}"
    if isinstance(sampler, torch.utils.data.DistributedSampler):
        kept = ("seed", "shuffle", "drop_last", "num_repeats", "window")
        text += "".join(f"|{name}={getattr(sampler, name, None)}" for name in kept)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_state(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise StateError unless the state can be continued by a loader whose own state is `expected`."""
    missing = [key for key in _KEYS if key not in state]
    if missing:
        raise StateError(f"the state is no loader state of fastpipe: it lacks {', '.join(missing)}")
    if state["version"] != STATE_VERSION:
        raise StateError(
            f"the state has format version {state['version']!r}; this fastpipe reads {STATE_VERSION}"
        )
    middle = state["delivered"] > 0 and not state["finished"]
    if not middle:
        return
    if not state["resumable"]:
        raise StateError(
            f"the state is {state['delivered']} batches into epoch {state['epoch']} of a loader that cannot "
            f"be resumed there, since its random steps are torch's own. Pass seed=... to the loader "
            f"that saves, or save at the end of an epoch"
        )
    _check_same(state, expected)


def _check_same(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    saved = (state["batch_size"] or 0) * state["world_size"]
    here = (expected["batch_size"] or 0) * expected["world_size"]
    if saved != here:
        raise StateError(
            f"the state was saved at a global batch of {saved} (batch size {state['batch_size']} on "
            f"{state['world_size']} ranks), this loader has {here} (batch size {expected['batch_size']} on "
            f"{expected['world_size']} ranks): position {state['delivered']} would not be the next sample. "
            f"Set batch_size to {saved // max(expected['world_size'], 1)}"
        )
    for key, remedy in (
        ("order", "use the same data set, sampler kind and seed"),
        ("seed", "pass the seed it was saved with"),
    ):
        if state[key] != expected[key]:
            raise StateError(
                f"the state's {key} is {state[key]!r}, this loader's is {expected[key]!r}: {remedy}"
            )
