"""What a worker process does with one request: a torch data set that is indexed by requests.

torch's own worker processes run these, so start methods, pinning, timeouts, dead workers and
Ctrl-C behave as torch users know them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.utils.data
from PIL import Image
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from fastpipe.batch.at_once import batch_at_once
from fastpipe.batch.locate import leaves, locate
from fastpipe.batch.mend import Mender, OnError, Policy
from fastpipe.batch.packing import Packing, Pixels, about, decode_step
from fastpipe.broken import is_broken_file
from fastpipe.decode import crop_and_resize
from fastpipe.decode.pillow import pixels
from fastpipe.errors import SampleError
from fastpipe.rng import Stream, integer_seeds
from fastpipe.types import HostBatch, Incident, Plan, Request

__all__ = ["Collated", "FolderWork", "KeyedWork", "own_generators"]


def reseed(seed: int) -> None:
    """Seed python, numpy and torch with 64 bits; torch takes 63, so that its initial_seed() is an int64."""
    random.seed(seed)
    np.random.seed((seed & 0xFFFFFFFF, seed >> 32))
    torch.default_generator.manual_seed(seed & ((1 << 63) - 1))


@contextmanager
def own_generators() -> Iterator[None]:
    """In the main process (num_workers=0), leave the script's generators as they were.

    For work that seeds them itself. Work that only draws from them continues from their state, as in torch:
    if they were restored after every batch, each batch would draw the same numbers.
    """
    if torch.utils.data.get_worker_info() is not None:
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class InitWorker:
    """Runs the user's worker_init_fn with `get_worker_info().dataset` being the user's data set."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self.worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        """Called by torch in the new worker, after it has seeded the generators."""
        info = torch.utils.data.get_worker_info()
        if info is not None:  # its own __setattr__ refuses changes after construction
            object.__setattr__(info, "dataset", getattr(info.dataset, "dataset", info.dataset))
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker_id)


class Collated(NamedTuple):
    """What the script's `collate_fn` made of `num` samples; `empty`: there were no samples to collate."""

    data: Any
    incidents: tuple[Incident, ...]
    number: int
    num: int
    empty: bool = False


class KeyedWork(torch.utils.data.Dataset[Any]):
    """An un-lifted data set, its generators reseeded by each sample's own key when `reseed`.

    Without `reseed` and with on_error="raise" it does what torch does. Else it asks for samples one by one,
    even if the data set has `__getitems__`.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        collate_fn: Callable[[Any], Any],
        batched: bool,
        reseed: bool,
        on_error: OnError,
    ) -> None:
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.batched = batched
        self.reseed = reseed
        self.on_error = on_error

    def __getitem__(self, request: Request) -> Collated:
        if self.reseed:
            with own_generators():
                seeds = integer_seeds(request.seed, request.epoch, request.ids, request.repeats, Stream.HOST)
                return self._fetch(request, seeds.tolist())
        if self.on_error == "raise":
            fetcher = _MapDatasetFetcher(self.dataset, self.batched, self.collate_fn, False)
            data = fetcher.fetch(request.asked)  # type: ignore[no-untyped-call]
            return Collated(data, (), request.batch, len(request.ids))
        return self._fetch(request, None)

    def _fetch(self, request: Request, seeds: Sequence[int] | None) -> Collated:
        asked = list(request.asked) if self.batched else [request.asked]
        samples: list[Any] = []
        incidents: list[Incident] = []
        for place, sample_id in enumerate(asked):
            if seeds is not None:
                reseed(seeds[place])
            try:
                samples.append(self._sample(sample_id))
            except Exception as error:
                if self.on_error == "raise" or not is_broken_file(error):
                    raise
                incidents.append(skipped(self.dataset, sample_id, error))
        if incidents and not samples:
            return Collated(None, tuple(incidents), request.batch, 0, empty=True)
        data = self.collate_fn(samples if self.batched else samples[0])
        return Collated(data, tuple(incidents), request.batch, len(samples))

    def _sample(self, sample_id: Any) -> Any:
        """As torch's fetcher asks for a batch of one, so that `__getitems__` is preferred here too."""
        several = getattr(self.dataset, "__getitems__", None) if self.batched else None
        return several([sample_id])[0] if several else self.dataset[sample_id]


def skipped(dataset: Any, sample_id: Any, error: Exception) -> Incident:
    """The incident of a sample that on_error="skip" leaves out of a data set that has no leaf."""
    key = error.path if isinstance(error, SampleError) else getattr(error, "filename", None)
    return Incident(
        sample_id=sample_id,
        key=str(key or f"{type(dataset).__name__}#{sample_id}"),
        action="skipped",
        reason=f"{error}",
        lasting=False,
    )


class FolderWork(torch.utils.data.Dataset[Any]):
    """Reads, decodes, crops and resizes the images of a request into one packed uint8 batch."""

    def __init__(self, dataset: Any, plan: Plan, *, reseed: bool, policy: Policy | None = None) -> None:
        self.dataset = dataset
        self.plan = plan
        scripts_own = bool(plan.host) or any(leaf.target_transform is not None for leaf in leaves(dataset))
        self.reseed = reseed and scripts_own
        self.mender = Mender(dataset, policy or Policy())

    def __getitem__(self, request: Request) -> HostBatch:
        began = time.thread_time()
        with own_generators() if self.reseed else nullcontext():
            batch = _Assembly(self, request).run()
        batch.to_pillow, batch.cpu_seconds = {}, time.thread_time() - began
        return batch


class _Assembly:
    """One batch under construction."""

    def __init__(self, work: FolderWork, request: Request) -> None:
        self.work = work
        self.spec, self.draws = decode_step(work.plan, request)
        keys = (request.seed, request.epoch, request.ids, request.repeats)
        self.seeds = integer_seeds(*keys, Stream.HOST).tolist() if work.reseed else None
        self.packing = Packing(request, work.mender)

    def run(self) -> HostBatch:
        if not self.work.plan.host and not self.work.mender.policy.listed:
            batch = batch_at_once(self.work.dataset, self.packing, self.spec, self.draws)
            if batch is not None:
                return batch
        for place in range(len(self.packing.request.ids)):
            self.packing.mending.fill(place, self._put)
        return self.packing.finish()

    def _put(self, place: int, sample_id: int) -> None:
        leaf, index = locate(self.work.dataset, sample_id)
        label = leaf.label(index)
        with about(leaf, index, sample_id):
            image = crop_and_resize(leaf.rgb(index), self.spec, self.draws[place])
        self.packing.store(place, self._host_steps(image, place), leaf, index)
        self.packing.label(place, leaf, label)

    def _host_steps(self, image: Any, place: int) -> Pixels:
        if self.seeds is not None:
            reseed(self.seeds[place])
        for step in self.work.plan.host:
            image = step(image)
        return as_pixels(image, self.work.plan.host)


def as_pixels(image: Any, steps: Sequence[Any] = ()) -> Pixels:
    """uint8 [H,W,3] of what the worker's steps returned: an RGB image or a uint8 tensor [3,H,W]."""
    if isinstance(image, Image.Image) and image.mode == "RGB":
        return pixels(image)
    if isinstance(image, torch.Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3:
        return image.permute(1, 2, 0).numpy()
    found = f"a {image.mode} image" if isinstance(image, Image.Image) else f"{type(image).__name__}"
    raise TypeError(
        f"the transform steps left on the workers must give an RGB PIL image or a uint8 tensor [3,H,W], "
        f"since steps after them run on the device. Found: {found} after {steps[-1]!r}. "
        f'Pass backend="torch" to run the whole pipeline as torch does.'
    )
