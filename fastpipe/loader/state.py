"""What a loader saves and loads: a small dictionary of plain values for any position and data set.

It loads with `torch.load(..., weights_only=True)`. Data is never replayed: only the ids of the batches
already delivered are drawn again.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any, Final

import torch

from fastpipe.batch import current_rank
from fastpipe.batch.order import length
from fastpipe.errors import StateError
from fastpipe.loader.asked import Asked
from fastpipe.loader.epoch import Position
from fastpipe.loader.replay import order_is_replayable, sampler_state

STATE_VERSION = 1
NO_ORDER: Final = "none"  # of an IterableDataset
_NOT_RESUMABLE: Final = (
    "that loader cannot promise to continue exactly: the script's own random steps draw new numbers, and "
    "a custom sampler must give the same order again. Pass seed=... to the loader that saves, give the "
    "sampler state_dict and load_state_dict, or save at the end of an epoch"
)
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
    """The current epoch: `sampler.epoch` if it exists, else set_epoch's, else the number of iter() calls."""

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
        """Take the epoch given to `set_epoch`."""
        self._said = int(epoch)
        set_samplers(self._said, samplers)

    def resume(self, state: Mapping[str, Any], *samplers: Any) -> None:
        """Continue with a saved epoch, or with the next one if it was finished."""
        epoch = int(state["epoch"]) + int(state["finished"])
        self._started = epoch
        if self._said is not None:
            self._said = epoch
        set_samplers(epoch, samplers)


def set_samplers(epoch: int, samplers: tuple[Any, ...]) -> None:
    """Call `set_epoch` of these samplers, and of those inside them, where there is one."""
    for sampler in samplers:
        for owner in (sampler, getattr(sampler, "sampler", None)):
            set_epoch = getattr(owner, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)


def make_state(
    asked: Asked,
    position: Position | None,
    clock: EpochClock,
    *,
    keyed: bool,
    chosen: str | None,
    unlifted: str | None,
) -> dict[str, Any]:
    """The state of a loader whose latest iterator is at `position` (None: not started).

    keyed: no random step depends on anything but the keys of contracts.md, section 1. chosen: the backend.
    unlifted: why lifting ended at a sample; None if it did not.
    """
    if position is None:
        epoch = clock.now(asked.sampler, asked.batch_sampler)
        position = Position(epoch=epoch, sampler=sampler_state(asked))
    return {
        "version": STATE_VERSION,
        "seed": asked.seed,
        "base_seed": position.base_seed,
        "drew_base_seed": position.drew_base_seed,
        "epoch": position.epoch,
        "delivered": position.delivered,
        "finished": position.finished,
        "batch_size": asked.batch_size or getattr(asked.batch_sampler, "batch_size", None),
        "world_size": _of_samplers("num_replicas", asked.sampler, asked.batch_sampler, default=_group_size()),
        "rank": _of_samplers("rank", asked.sampler, asked.batch_sampler, default=current_rank()),
        "order": order_fingerprint(asked),
        "ids": None if position.trail is None else position.trail.hexdigest(),
        "backend": asked.backend,
        "chosen": chosen,
        "unlifted": unlifted,
        "numerics": asked.kept_numerics,
        "resumable": keyed and asked.in_order and order_is_replayable(asked),
        "sampler": sampler_state(asked) if position.finished else position.sampler,
        "generator": None if asked.seed is not None else position.generator,
        "order_generator": position.order_generator,
    }


def _of_samplers(name: str, *samplers: Any, default: int) -> int:
    """The number `name` of the sampler that deals to ranks, else `default`."""
    for sampler in samplers:
        for owner in (sampler, getattr(sampler, "sampler", None)):
            num = getattr(owner, name, None)
            if isinstance(num, int):
                return num
    return default


def _group_size() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def order_fingerprint(asked: Asked) -> str:
    """A hash of what decides the order, except the batch size and the world size."""
    if asked.iterable:
        return NO_ORDER
    sampler, seed = asked.sampler, asked.seed
    text = f"{type(sampler).__name__}|{length(asked.dataset, -1)}|{seed}"
    if isinstance(sampler, torch.utils.data.DistributedSampler):
        kept = ("seed", "shuffle", "drop_last", "num_repeats", "window")
        text += "".join(f"|{name}={getattr(sampler, name, None)}" for name in kept)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fitted(state: Mapping[str, Any], expected: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """The state as continued by a loader whose own state is `expected`.

    Raises StateError for anything but a state, and for a state of another order. One warning names what else
    cannot be kept exactly; with `strict` it is an error.
    """
    missing = [key for key in _KEYS if key not in state]
    if missing:
        raise StateError(f"the state is not a fastpipe loader state: it lacks {', '.join(missing)}")
    if state["version"] != STATE_VERSION:
        raise StateError(
            f"the state has format version {state['version']!r}; this fastpipe reads {STATE_VERSION}"
        )
    fit = dict(state)
    if state["delivered"] == 0 or state["finished"]:
        return fit
    for key, remedy in (
        ("order", "use the same data set, sampler kind and seed"),
        ("seed", "pass the seed it was saved with"),
    ):
        if state[key] != expected[key] and expected["order"] != NO_ORDER:
            raise StateError(
                f"the state's {key} is {state[key]!r}, this loader's is {expected[key]!r}: {remedy}"
            )
    limits = [] if state["resumable"] else [_NOT_RESUMABLE]
    limits += _moved(fit, expected)
    if limits:
        where = f"the state is {state['delivered']} batches into epoch {state['epoch']}, and "
        if strict:
            raise StateError(f"{where}{'; '.join(limits)}. strict_resume=True allows no difference")
        warnings.warn(f"{where}{'; '.join(limits)}", stacklevel=3)
    return fit


def _moved(fit: dict[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Set the position at which a loader of another global batch continues; returns the changes in words."""
    if expected["order"] == NO_ORDER:
        fit["delivered"] = 0
        return ["its data set has no ids to skip by: the epoch begins again"]
    saved, here = _global_batch(fit), _global_batch(expected)
    if fit["world_size"] != expected["world_size"] or fit.get("rank") != expected["rank"]:
        fit["ids"] = None  # these ids were another rank's
    if saved == here:
        return []
    theirs = f"{saved} (batch size {fit['batch_size']} on {fit['world_size']} ranks)"
    ours = f"{here} (batch size {expected['batch_size']} on {expected['world_size']} ranks)"
    sizes = f"it was saved at a global batch of {theirs}, this loader has {ours}"
    if not saved or not here:
        fit["delivered"] = 0
        return [f"{sizes}: the epoch begins again. Set the same batch size to continue it"]
    fit["delivered"], again = divmod(fit["delivered"] * saved, here)
    if again:
        fit["ids"] = None
    twice = f"{again} samples are delivered again, and " if again else ""
    return [
        f"{sizes}: it continues at batch {fit['delivered']}; {twice}what is drawn for a whole batch "
        f"(MixUp, CutMix, ColOut) differs. Set batch_size to {saved // max(expected['world_size'], 1)} to "
        f"continue exactly"
    ]


def _global_batch(state: Mapping[str, Any]) -> int:
    return int(state["batch_size"] or 0) * int(state["world_size"])


def check_replay(saved: Mapping[str, Any], position: Position) -> None:
    """Raise StateError if the ids drawn again are not those that were delivered."""
    ids = saved.get("ids")
    if ids is not None and position.trail is not None and position.trail.hexdigest() != ids:
        raise StateError(
            f"the sampler does not repeat the {saved['delivered']} batches of epoch {saved['epoch']} that "
            f"were delivered before the state was saved: some samples would come twice and others never. Use "
            f"a sampler whose order is fixed by a seed, or that has state_dict and load_state_dict; or save "
            f"at the end of an epoch"
        )
