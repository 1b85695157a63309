"""`fastpipe.DataLoader`: torch's DataLoader, arguments and behaviour, with image folders on a fast path."""

from __future__ import annotations

import logging
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
import torch.utils.data

from fastpipe.backends.base import BatchSource, Numerics
from fastpipe.batch import SeededSampler
from fastpipe.batch.ids import Trail
from fastpipe.batch.mend import OnError
from fastpipe.batch.order import length
from fastpipe.batch.own.results import NotLifted
from fastpipe.batch.shutdown import end_workers_with
from fastpipe.device.engines.protocol import EngineName
from fastpipe.errors import ArgumentError, LiftError, LiftWarning, StateError
from fastpipe.integrations import PreparedMark, remember
from fastpipe.loader.arguments import (
    ResolutionPolicy,
    check_group,
    open_dataset,
    resolve_workers,
    warn_without_effect,
)
from fastpipe.loader.asked import Asked
from fastpipe.loader.counting import counted_iterator
from fastpipe.loader.epoch import EpochIterator, Lane, MovedIterator, Position, Starter, Whereabouts
from fastpipe.loader.explain import Explanation, facts_of
from fastpipe.loader.own import Proofs
from fastpipe.loader.plan import Planned, plan_asked, refuse_what_needs_lifting
from fastpipe.loader.preview.make import preview_of
from fastpipe.loader.preview.result import Preview
from fastpipe.loader.replay import (
    draws_base_seed,
    order_generator_state,
    replayed,
    restore_sampler,
    sampler_state,
)
from fastpipe.loader.state import EpochClock, check_replay, fitted, make_state
from fastpipe.loader.stats import LoaderStats
from fastpipe.loader.supply import Supply, drawer_of, lane_of, target_of
from fastpipe.transforms import with_size
from fastpipe.types import Choice, Incident, Spec

__all__ = ["DataLoader"]

_log = logging.getLogger("fastpipe")

Resolution = int | Callable[[int, int], int]
T_co = TypeVar("T_co", covariant=True)


class DataLoader(torch.utils.data.DataLoader[T_co]):
    """A drop-in for torch.utils.data.DataLoader with its seventeen arguments, and:

    dataset:       also a path to `root/class/*.jpg`, a `.beton`, or a list (.csv, .jsonl, .parquet), or a
                   TensorDataset of uint8 images; then `transform` is a torchvision one.
    num_workers:   also "auto": this process's share of the CPUs, by affinity, cgroup quota and local ranks.
    backend:       "auto" (the fastest here of those that can serve the plan), the name of one, or
                   "torch" (lift nothing, behave as torch's class).
    device:        where batches arrive. None: lifted batches go to the current CUDA device if there is one,
                   others stay on the CPU.
    seed:          makes order, crops, flips and operations functions of (seed, epoch, id) alone: equal
                   for every worker count and world size. The order of a custom sampler is kept.
                   Python, numpy and torch are seeded before each sample that the script's own code touches,
                   which overrides what `worker_init_fn` seeded.
    augment:       specs of `fastpipe.augment` added to the lifted plan.
    num_classes:   number of classes, for MixUp and CutMix, if the data set has no `classes`.
    engine:        "fused", "torch", "kornia" (kornia's own pixels), or "none" (yields uint8 [B,H,W,3], labels
                   and the drawn parameters).
    numerics:      "exact" (torchvision's pixels) or "fast" (a backend may approximate).
    dtype:         of the images; None is what the pipeline implies (float32 after ToTensor).
    memory_format: of the images; torch.channels_last for convolutions that want it.
    on_error:      for files that cannot be decoded: "raise", "skip" (a shorter batch; an empty one is
                   dropped, so an epoch may have fewer than len() batches) or "replace" (another image of
                   the same class).
    quarantine:    a file in which "skip" and "replace" list broken samples; the next run leaves them out.
                   None: one for each data set, in the cache directory. False: no list.
    max_bad:       the share of an epoch's samples that may be skipped or replaced, at least 5 samples; more
                   is an error.
    resolution:    an int or a pure function (epoch, batch index) -> int: the crop's size in pixels.
    strict_resume: raise StateError for a state that cannot be continued exactly, instead of one warning.
    strict_lift:   raise LiftError if nothing can be lifted, or if a sample of the script's own data set
                   breaks a condition of lifting, instead of going on as torch does with one warning.

    A lifted batch is `[images, labels]`: images [B,3,H,W], labels int64 [B] on the same device, or what
    torch's default_collate makes of other labels; `[images]` of data without labels. With MixUp or CutMix
    labels are float32 [B, classes], or float ones in their own form, mixed; the batch has attributes
    hard_labels, partner and weight.
    What cannot be lifted runs through torch's own code; `explain()` says what runs where and why.
    """

    _is_accelerate_prepared = PreparedMark()

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int | Literal["auto"] = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        transform: Callable[[Any], Any] | None = None,
        backend: str = "auto",
        device: torch.device | str | int | None = None,
        seed: int | None = None,
        augment: Sequence[Spec] | None = None,
        num_classes: int | None = None,
        engine: EngineName = "fused",
        numerics: Numerics | None = None,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
        on_error: OnError = "raise",
        quarantine: str | os.PathLike[str] | Literal[False] | None = None,
        max_bad: float = 0.01,
        resolution: Resolution | None = None,
        strict_resume: bool = False,
        strict_lift: bool = False,
    ) -> None:
        dataset = open_dataset(dataset, transform)
        warn_without_effect(quarantine, on_error)
        ordered = shuffle and sampler is None and batch_sampler is None
        if seed is not None and ordered and not isinstance(dataset, torch.utils.data.IterableDataset):
            sampler, shuffle = SeededSampler(dataset, seed), None
        self.transform = transform
        self.backend = backend
        self.device = device
        self.seed = seed
        self.augment = augment
        self.num_classes = num_classes
        self.engine: EngineName = engine
        self.numerics: Numerics | None = numerics
        self.dtype = dtype
        self.memory_format = memory_format
        self.on_error: OnError = on_error
        self.quarantine = quarantine
        self.max_bad = max_bad
        self.resolution = resolution
        self.strict_resume = strict_resume
        self.strict_lift = strict_lift
        self._policy = ResolutionPolicy(resolution)
        self._clock = EpochClock()
        self._where = Whereabouts()
        self._pending: Mapping[str, Any] | None = None
        self._live: weakref.ref[Any] | None = None
        self._supply = Supply()
        self._proofs = Proofs()
        self._said_why = False
        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            resolve_workers(num_workers, dataset),
            collate_fn,
            pin_memory,
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            pin_memory_device=pin_memory_device,
            in_order=in_order,
        )
        self._asked = Asked.of(self)
        remember(self)

    def __setattr__(self, name: str, value: Any) -> None:
        asked: Asked | None = self.__dict__.get("_asked")
        if asked is None or name not in Asked.__dataclass_fields__:
            super().__setattr__(name, value)
            return
        replace(asked, **{name: value})  # wrong values are refused before they are set
        super().__setattr__(name, value)
        self.__dict__["_asked"] = Asked.of(self)

    def planned(self) -> Planned:
        """The plan for the data set as it is now, or the reason why nothing is lifted."""
        return plan_asked(self._asked, self._proofs)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """A new iterator over the current epoch; the plan is read from the data set now."""
        planned = self.planned()
        if planned.plan is None:
            self._go_without(planned.reason)
            self._say_why(planned.reason)
        check_group(self.on_error)
        epoch = self._clock.start(self.sampler, self.batch_sampler)
        saved = self._take_pending(epoch)
        as_torch = self.seed is None and self.on_error == "raise" and saved is None
        if planned.plan is None and as_torch:
            return self._iterate_as_torch(epoch, target_of(self._asked, planned))
        return self._iterate(planned, epoch, saved)

    def _go_without(self, reason: str) -> None:
        """Raise if the script insists on what only a lifted plan gives."""
        if self.strict_lift:
            raise LiftError(f"strict_lift=True, and nothing is lifted: {reason}")
        refuse_what_needs_lifting(self._asked, reason, resized=self._policy.active)

    def _without_lifting(self, broken: NotLifted) -> tuple[Starter, Lane]:
        """What makes the batches of this epoch from one on in which a sample broke a condition."""
        place = f"batch {broken.request.batch} of epoch {broken.request.epoch}"
        if self.strict_lift:
            raise LiftError(f"strict_lift=True, and {broken} ({place})")
        if broken.kept and not self.num_workers:
            raise LiftError(
                f"{broken} ({place}). Without worker processes the data set itself now holds an object of "
                f"fastpipe's in the image's place: make the data set anew, and pass backend='torch'"
            )
        reason = f"lifting ended at {place}: {broken}"
        self._go_without(reason)
        warnings.warn(
            f"{reason}. This batch and all later ones are made as torch makes them. strict_lift=True raises "
            f"instead; docs/lifting.md lists the conditions",
            LiftWarning,
            stacklevel=3,
        )
        self._proofs.end(self.dataset, reason)
        ended = Planned(plan=None, reason=reason, ended=True)
        source = self._supply.unlifted(self._asked, ended)
        return source.start, lane_of(self._asked, ended, self._supply.stages, self._policy)

    def _say_why(self, reason: str) -> None:
        if not self._said_why:
            self._said_why = True
            _log.info("nothing is lifted, so torch's own code makes the batches: %s", reason)

    def _iterate_as_torch(self, epoch: int, target: torch.device | None) -> Iterator[Any]:
        position = self._where.position = self._position_at(epoch)
        self._live = None
        if self._asked.iterable:
            position.trail = None
        position.drew_base_seed = self._iterator is None  # persistent workers keep theirs
        iterator: Any = super().__iter__()
        position.base_seed = int(iterator._base_seed)
        end_workers_with(iterator)
        if target is not None:
            return MovedIterator(iterator, target)
        return iterator  # type: ignore[no-any-return]

    def _get_iterator(self) -> Any:
        """torch's hook: its iterators, counting for `state_dict`."""
        return counted_iterator(self, self._where)

    def _position_at(self, epoch: int) -> Position:
        """The start of an epoch: the state of the generators that it will draw from."""
        return Position(
            epoch=epoch,
            generator=torch.get_rng_state() if self.generator is None else self.generator.get_state(),
            order_generator=order_generator_state(self._asked),
            sampler=sampler_state(self._asked),
            trail=Trail() if self.in_order else None,
        )

    def _iterate(self, planned: Planned, epoch: int, saved: Mapping[str, Any] | None) -> EpochIterator:
        self._close_shared_iterator()
        asked = self._asked
        choice = self._supply.choice(asked, planned, self._policy)
        source, fresh = self._supply.source(asked, planned, choice)
        incidents = self._supply.incidents(asked)
        batches, left_out = self._batches()
        position = self._position_at(epoch)
        position.delivered = saved["delivered"] if saved else left_out
        lane = lane_of(asked, planned, self._supply.stages, self._policy)
        with replayed(saved, asked):
            position.base_seed = self._key_seed(saved, source)
            position.drew_base_seed = fresh if saved is None else saved["drew_base_seed"]
            drawer = drawer_of(asked, planned, choice, position, batches=batches, resolution=self._policy)
            position.trail = drawer.trail if self.in_order else None
            iterator = EpochIterator(
                drawer,
                source.start,
                lane,
                position,
                incidents,
                in_order=self.in_order,
                ahead=self.num_workers * (self.prefetch_factor or 0) if lane.overlaps else 0,
                again=saved is not None and not draws_base_seed(saved, asked),
                tally=self._where.tally,
                unlifted=self._without_lifting if planned.proof is not None else None,
            )
            drawer.fast_forward()
        if saved is not None:
            self._check_replay(saved, position, iterator)
            position.generator, position.order_generator = saved["generator"], saved.get("order_generator")
        incidents.begin(asked.samples_in(length(self, -1)))
        self._where.position, self._live = position, weakref.ref(iterator)
        return iterator

    def _check_replay(self, saved: Mapping[str, Any], position: Position, iterator: EpochIterator) -> None:
        """Raise StateError for other ids, at every `iter()`: the epoch must not restart silently."""
        try:
            check_replay(saved, position)
        except StateError:
            iterator.close()
            self._clock.resume(saved, self.sampler, self.batch_sampler)
            self._pending = saved
            raise

    def _follow(self, source: DataLoader[Any]) -> None:
        """Adopt the size that `set_resolution` gave another loader."""
        self._policy.override = source._policy.override

    def _batches(self) -> tuple[Any, int]:
        """The sampler of the epoch's batches, and how many batches to leave out at its start."""
        return self._asked.index_sampler, 0

    def _key_seed(self, saved: Mapping[str, Any] | None, source: BatchSource) -> int:
        if self.seed is not None:
            return self.seed
        drawn = saved["base_seed"] if saved else None
        return source.base_seed() if drawn is None else int(drawn)

    def _close_shared_iterator(self) -> None:
        """Persistent workers serve one iterator at a time: torch resets its iterator, we end ours."""
        live = self._live() if self._live is not None else None
        if live is not None and self.persistent_workers:
            live.close()

    def set_epoch(self, epoch: int) -> None:
        """Use this epoch from the next `iter()` on, here and in samplers with a set_epoch.

        After `load_state_dict`, the saved epoch keeps the position; another epoch drops it.
        """
        self._clock.set(epoch, self.sampler, self.batch_sampler)

    def set_resolution(self, size: int | None) -> None:
        """Crop to `size` pixels from the next delivered batch on; None restores `resolution`."""
        planned = self.planned()
        if planned.plan is None:
            raise ArgumentError(
                f"set_resolution needs a lifted pipeline, and nothing was lifted: {planned.reason}"
            )
        if size is not None:
            with_size(planned.plan, size)
        self._policy.set(size)
        live = self._live() if self._live is not None else None
        if live is not None:
            live.restart()

    def choose_backend(self) -> Choice | None:
        """The backend that serves this loader; measured now if necessary, as at the first `iter()`.

        None when nothing was lifted. Before that, `explain()` only says what will be measured.
        """
        return self._supply.choice(self._asked, self.planned(), self._policy)

    def incident_counts(self) -> dict[str, int]:
        """How many of the samples delivered so far were "skipped", "replaced" and "rescued"."""
        return dict(self._supply.incidents(self._asked).counts)

    def incidents(self) -> tuple[Incident, ...]:
        """The samples of the newest epoch that were skipped, replaced or rescued, in their order.

        Those of batches that are delivered; it fills up while the epoch is read.
        """
        return tuple(self._supply.incidents(self._asked).of_epoch)

    def stats(self) -> LoaderStats:
        """What was delivered so far, over all epochs: images, those handed to Pillow, waiting, CPU time."""
        return self._where.tally.stats()

    def explain(self) -> Explanation:
        """Each step of the transform, where it runs and why; which backend serves, and why not the others."""
        planned = self.planned()
        choice = self._supply.choice(self._asked, planned, None)
        return Explanation(
            lifted=planned.plan is not None,
            reason=planned.reason,
            steps=planned.notes,
            choice=choice,
            facts=facts_of(self._asked, planned, choice, self._where.tally),
        )

    def preview(self, images: int = 16, *, epochs: Sequence[int] | None = None) -> Preview:
        """Images as the model will see them, each with its operations; a notebook shows the result.

        images: the first so many different ones of the order. epochs: in which epochs to show them, from 0;
        None: the one of the next `iter()`. The pixels are those of the loader's own batches, as levels; of
        what cannot be lifted no operations are known. The loader, its samplers and the generators stay as
        they are. Raises ArgumentError for wrong numbers, and if batches hold no images.
        """
        return preview_of(
            self._asked,
            self._supply,
            self._policy,
            images=images,
            epochs=epochs,
            epoch=self._clock.now(self.sampler, self.batch_sampler),
        )

    def state_dict(self) -> dict[str, Any]:
        """The position in plain values (about 5 kB without `seed`, else far less); see `load_state_dict`."""
        if self._pending is not None:
            return dict(self._pending)
        return self._state_at(self._where.position)

    def _state_at(self, position: Position | None) -> dict[str, Any]:
        return make_state(
            self._asked,
            position,
            self._clock,
            keyed=self._keyed(),
            chosen=self._supply.backend,
            unlifted=self._proofs.ended(self.dataset),
        )

    def _keyed(self) -> bool:
        """Whether every random step is keyed: the script has none of its own, or `seed=` seeds them."""
        planned = self.planned()
        lifted_alone = planned.plan is not None and not planned.plan.host and planned.proof is None
        return self.seed is not None or lifted_alone

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was saved, from the next `iter()` on: the next sample is the next one.

        Raises StateError for a state of another order or seed. A state with `resumable: False` or another
        global batch is continued as far as possible, with one warning that names the differences;
        `strict_resume=True` raises StateError. The next `iter()` raises StateError if the sampler's ids are
        not those that were delivered.
        """
        fit = fitted(state, self._state_at(None), strict=self.strict_resume)
        self._clock.resume(fit, self.sampler, self.batch_sampler)
        restore_sampler(self._asked, fit.get("sampler"))
        self._supply.resume(fit.get("chosen"))
        self._proofs.end(self.dataset, fit.get("unlifted"))
        self._pending = None if fit["finished"] else fit

    def _take_pending(self, epoch: int) -> Mapping[str, Any] | None:
        pending, self._pending = self._pending, None
        if pending is None or pending["epoch"] != epoch or pending["delivered"] == 0:
            return None
        return pending

    def __getstate__(self) -> dict[str, Any]:
        """What pickle stores: everything but the iterators, workers and devices of this process.

        The memory format is stored by name: torch.save uses pickle's protocol 2, which cannot store it.
        """
        own = {
            "_live": None,
            "_where": Whereabouts(),
            "_supply": self._supply.unopened(),
        }
        state = {**self.__dict__, **own, "memory_format": str(self.memory_format).removeprefix("torch.")}
        del state["_asked"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, memory_format=getattr(torch, state["memory_format"]))
        self.__dict__["_asked"] = Asked.of(self)
