"""`fastpipe.DataLoader`: torch's DataLoader, arguments and behaviour, with image folders on a fast path."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.utils.data

from fastpipe.arguments import ResolutionPolicy, check_loader_arguments, open_dataset
from fastpipe.backends.base import BatchSource, Numerics
from fastpipe.batch import SeededSampler
from fastpipe.batch.mend import OnError
from fastpipe.batch.order import check_seed
from fastpipe.batch.shutdown import end_workers_with
from fastpipe.device.engines import EngineName
from fastpipe.device.stage import resolve_device
from fastpipe.epoch import EpochIterator, MovedIterator, Position
from fastpipe.errors import ArgumentError
from fastpipe.explain import Explanation, facts_of
from fastpipe.planning import Planned, plan_loader
from fastpipe.sources import refuse_what_needs_lifting, resolve_workers
from fastpipe.state import EpochClock, check_state, make_state, replayed, sampler_state
from fastpipe.supply import Supply, lane_of, num_samples, request_stream
from fastpipe.transforms import with_size
from fastpipe.types import Choice, Spec

__all__ = ["DataLoader"]

Resolution = int | Callable[[int, int], int]


class DataLoader(torch.utils.data.DataLoader[Any]):
    """A drop-in for torch.utils.data.DataLoader with its seventeen arguments, and:

    dataset:       also a path to `root/class/*.jpg` or a `.beton`; then `transform` is a torchvision one.
    num_workers:   also "auto": this process's share of the CPUs, by affinity, cgroup quota and local ranks.
    backend:       "auto" (what can serve the plan, and of several the fastest here), the name of one, or
                   "torch" (lift nothing, behave as torch's class).
    device:        where batches arrive. None: lifted batches go to the current CUDA device if there is one,
                   others stay on the CPU.
    seed:          makes order, crops, flips and operations functions of (seed, epoch, id) alone: equal
                   for every worker count and world size. With a sampler of your own, its order is kept.
    augment:       specs of `fastpipe.augment` added to the lifted plan.
    num_classes:   number of classes, for MixUp and CutMix, where the data set has no `classes`.
    engine:        "fused", "torch", "kornia" (kornia's own pixels), or "none" (yields uint8 [B,H,W,3], labels
                   and the drawn parameters).
    numerics:      "exact" (torchvision's pixels) or "fast" (a backend may approximate).
    dtype:         of the images; None is what the pipeline implies (float32 after ToTensor).
    memory_format: of the images; torch.channels_last for convolutions that want it.
    on_error:      for files that cannot be decoded: "raise", "skip" (a shorter batch) or "replace"
                   (another image of the same class).
    quarantine:    a file where "skip" and "replace" list broken samples, which the next run leaves alone.
                   None: one for each data set in the cache directory. False: no list.
    max_bad:       the share of an epoch's samples that may be skipped or replaced, and at least 5; more is
                   an error.
    resolution:    an int or a pure function (epoch, batch index) -> int: the crop's size in pixels.

    A lifted batch is `[images, labels]`: images [B,3,H,W], labels int64 [B] on the same device. With MixUp or
    CutMix labels are float32 [B, classes], and the batch has attributes hard_labels, partner and weight.
    What cannot be lifted runs through torch's own code; `explain()` says what runs where and why.
    """

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
    ) -> None:
        dataset = open_dataset(dataset, transform)
        check_loader_arguments(
            dataset=dataset,
            backend=backend,
            engine=engine,
            numerics=numerics,
            dtype=dtype,
            memory_format=memory_format,
            on_error=on_error,
            num_classes=num_classes,
            quarantine=quarantine,
            max_bad=max_bad,
        )
        if seed is not None:
            check_seed(seed)
            if isinstance(dataset, torch.utils.data.IterableDataset):
                raise ArgumentError(
                    "seed keys draws by sample id, and an IterableDataset has none. Leave it out"
                )
            if shuffle and sampler is None and batch_sampler is None:
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
        self._policy = ResolutionPolicy(resolution)
        self._clock = EpochClock()
        self._position: Position | None = None
        self._pending: Mapping[str, Any] | None = None
        self._live: weakref.ref[Any] | None = None
        self._supply = Supply()
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

    def _plan(self) -> Planned:
        if self.backend == "torch":
            return Planned(plan=None, reason='backend="torch" was asked for')
        return plan_loader(
            self.dataset,
            batched=self._auto_collation,
            collate_fn=self.collate_fn,
            augment=tuple(self.augment or ()),
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """A new iterator over the epoch at hand; the plan is read from the data set now."""
        planned = self._plan()
        if planned.plan is None:
            refuse_what_needs_lifting(self, planned.reason, resized=self._policy.active)
        epoch = self._clock.start(self.sampler, self.batch_sampler)
        if planned.plan is None and self.seed is None and self.on_error == "raise":
            return self._iterate_as_torch(epoch)
        return self._iterate(planned, epoch)

    def _iterate_as_torch(self, epoch: int) -> Iterator[Any]:
        self._pending = None
        iterator: Any = super().__iter__()
        end_workers_with(iterator)
        if self.device is not None:
            iterator = MovedIterator(iterator, resolve_device(self.device))
        # torch's iterators count what they yielded, so ours need not stand between.
        self._position = Position(epoch=epoch, counter=weakref.ref(iterator))
        self._live = None
        return iterator  # type: ignore[no-any-return]

    def _iterate(self, planned: Planned, epoch: int) -> EpochIterator:
        self._close_shared_iterator()
        saved = self._take_pending(epoch)
        source, fresh = self._supply.source(self, planned)
        incidents = self._supply.incidents(self)
        position = Position(
            epoch=epoch,
            delivered=saved["delivered"] if saved else 0,
            generator=torch.get_rng_state() if self.generator is None else self.generator.get_state(),
            sampler=sampler_state(self.sampler),
        )
        # A resumed epoch began elsewhere: its draw is replayed, or it was never made.
        draw_nothing = saved is not None and (saved["generator"] is None or not saved["drew_base_seed"])
        with replayed(saved, self.generator):
            position.base_seed = self._key_seed(saved, source)
            position.drew_base_seed = fresh if saved is None else saved["drew_base_seed"]
            stream = request_stream(self, epoch, position)
            iterator = EpochIterator(
                stream,
                source.start,
                lane_of(self, planned),
                position,
                incidents,
                in_order=self.in_order,
                ahead=self.num_workers > 0,
                again=draw_nothing,
            )
            stream.fast_forward()
        if saved is not None:
            position.generator = saved["generator"]
        incidents.begin(num_samples(self))
        self._position, self._live = position, weakref.ref(iterator)
        return iterator

    def _key_seed(self, saved: Mapping[str, Any] | None, source: BatchSource) -> int:
        if self.seed is not None:
            return self.seed
        return int(saved["base_seed"]) if saved else source.base_seed()

    def _close_shared_iterator(self) -> None:
        """Persistent workers serve one iterator at a time: torch resets theirs, we end ours."""
        live = self._live() if self._live is not None else None
        if live is not None and self.persistent_workers:
            live.close()

    def set_epoch(self, epoch: int) -> None:
        """Use this epoch from the next `iter()` on, here and in the samplers that have a set_epoch.

        After `load_state_dict`, the same value keeps the position and another one drops it.
        """
        self._clock.set(epoch, self.sampler, self.batch_sampler)

    def set_resolution(self, size: int | None) -> None:
        """Crop to `size` pixels from the next delivered batch on; None goes back to `resolution`."""
        planned = self._plan()
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
        """The backend that serves this loader, measured now if need be as at the first `iter()`.

        None when nothing was lifted. What `explain()` says before then is only what stands to be measured.
        """
        return self._supply.choice(self, self._plan())

    def incident_counts(self) -> dict[str, int]:
        """How many samples were "skipped", "replaced" and "rescued" so far in what was delivered."""
        return dict(self._supply.incidents(self).counts)

    def explain(self) -> Explanation:
        """Each step of the transform, where it runs and why; which backend, and why not the others."""
        planned = self._plan()
        choice = self._supply.choice(self, planned, probing=False)
        return Explanation(
            lifted=planned.plan is not None,
            reason=planned.reason,
            steps=planned.notes,
            choice=choice,
            facts=facts_of(self, planned, choice),
        )

    def state_dict(self) -> dict[str, Any]:
        """The position in plain values (about 5 kB without `seed`, else far less); see `load_state_dict`."""
        if self._pending is not None:
            return dict(self._pending)
        planned = self._plan()
        resumable = self.in_order and (
            self.seed is not None or (planned.plan is not None and not planned.plan.host)
        )
        return make_state(self, self._position, self._clock, resumable=resumable)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was saved, from the next `iter()` on: the next sample is the next one.

        Raises StateError for a state of another order, seed or global batch, or one that was saved in
        mid-epoch by a loader that cannot be resumed there.
        """
        check_state(state, self.state_dict() if self._pending is None else dict(self._pending))
        self._clock.resume(state, self.sampler, self.batch_sampler)
        if state.get("sampler") is not None and hasattr(self.sampler, "load_state_dict"):
            self.sampler.load_state_dict(state["sampler"])
        self._supply.resume(state.get("chosen"))
        self._pending = None if state["finished"] else dict(state)

    def _take_pending(self, epoch: int) -> Mapping[str, Any] | None:
        pending, self._pending = self._pending, None
        if pending is None or pending["epoch"] != epoch or pending["delivered"] == 0:
            return None
        return pending
