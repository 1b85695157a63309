"""One request to one packed uint8 batch: natively by the chunk, by Pillow for what is handed over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from fastpipe.backends.base import Numerics
from fastpipe.backends.threads import Stop
from fastpipe.backends.turbo.native import most_pixels, open_native, pillow_decides, step_of
from fastpipe.batch.at_once import batch_at_once
from fastpipe.batch.locate import Group, locate, locate_many
from fastpipe.batch.mend import Mender
from fastpipe.batch.packing import Packing, Pixels, about, decode_draws
from fastpipe.decode import crop_and_resize
from fastpipe.decode.pillow import pixels, plain_jpeg
from fastpipe.errors import SampleError
from fastpipe.storage import Leaf
from fastpipe.storage.leaf import Encoded
from fastpipe.types import HostBatch, IntArray, Plan, Request, Spec

if TYPE_CHECKING:
    from fastpipe._turbo import Step, Worker

# Images of a native call, between which a closed iterator is noticed. A call costs 10 us; 16 photographs of
# ImageNet's size take 15 ms, 16 of 12 megapixels half a second.
CHUNK: Final = 16
_NOTHING: Final = b""  # no image natively: Pillow's path finds out what is wrong


class BatchWork:
    """Makes batches; shared by the threads of a source. pin: into page-locked memory."""

    def __init__(self, dataset: Any, plan: Plan, mender: Mender, *, numerics: Numerics, pin: bool) -> None:
        self.dataset = dataset
        self.plan = plan
        self.mender = mender
        self.pin = pin
        self.statuses = open_native().STATUSES
        self.step_of = lru_cache(maxsize=64)(partial(step_of, fast=numerics == "fast"))

    def __call__(self, request: Request, worker: Worker, stop: Stop) -> HostBatch:
        """The batch of one request. Raises SampleError, or RuntimeError for images of unequal size."""
        began = time.thread_time()
        batch = Assembly(self, request, worker).run(stop)
        batch.cpu_seconds = time.thread_time() - began
        return batch


class Assembly:
    """One batch under construction, by one thread."""

    def __init__(self, work: BatchWork, request: Request, worker: Worker) -> None:
        self.work = work
        self.worker = worker
        self.spec: Spec | None
        self.spec, draws = decode_draws(work.plan, request)
        self.draws = np.ascontiguousarray(draws)
        self.replaced = pillow_decides()
        self.step: Step | None = None if self.replaced else work.step_of(self.spec)
        self.limit = most_pixels()
        self.packing = Packing(request, work.mender, pin=work.pin)
        self.handed: Counter[str] = Counter()

    def run(self, stop: Stop) -> HostBatch:
        """The batch; RuntimeError if it is told to stop."""
        if not self.work.mender.policy.listed:  # images in memory are not decoded
            batch = batch_at_once(self.work.dataset, self.packing, self.spec, self.draws.tolist())
            if batch is not None:
                batch.to_pillow = {}
                return batch
        num = len(self.packing.request.ids)
        for start in range(0, num, CHUNK):
            if stop():
                raise RuntimeError("the iterator was closed")
            self._fill(range(start, min(start + CHUNK, num)))
        batch = self.packing.finish()
        batch.to_pillow = dict(self.handed)
        return batch

    def _fill(self, chunk: range) -> None:
        mending = self.packing.mending
        tried = [place for place in chunk if mending.listed(place) is None]
        for place in chunk if len(tried) < len(chunk) else ():
            if place not in tried:
                mending.fill(place, self._alone)
        if self.step is None or self.step.size is None:
            for place in tried:
                mending.fill(place, self._alone)
            return
        images = self.packing.open(self.step.size).numpy()
        places = np.array(tried, dtype=np.int64)
        for group in locate_many(self.work.dataset, self.packing.request.ids[places]):
            for run in _runs(group._replace(places=places[group.places])):
                self._fill_run(run, images, self.step)

    def _fill_run(self, run: Group, images: Pixels, step: Step) -> None:
        """A run's places follow one another, so its images are one piece of memory."""
        leaf, first, num = run.leaf, int(run.places[0]), len(run.places)
        statuses = self._native(leaf, run.indices, step, slice(first, first + num), images)
        rest = np.flatnonzero(statuses).tolist()
        packing, label = self.packing, leaf.label
        for place, index in enumerate(run.indices.tolist(), start=first):
            if not rest or statuses[place - first] == 0:
                packing.label(place, leaf, label(index))
        for one in rest:
            self._hand_over(first + one, self.work.statuses[statuses[one]])

    def _native(
        self, leaf: Leaf, indices: IntArray, step: Step, places: slice, images: Pixels
    ) -> npt.NDArray[np.uint8]:
        located = None if leaf.mapped else leaf.locate(indices)
        if located is None:
            data = _bytes_of(leaf, indices)
            sizes = leaf.sizes(indices)
            return self.worker.fill_bytes(
                data, step, self.draws[places], images[places], self.limit, sizes=sizes
            )
        return self.worker.fill(
            list(located.files),
            located.file,
            located.offset,
            located.length,
            step,
            self.draws[places],
            images[places],
            self.limit,
        )

    def _hand_over(self, place: int, reason: str) -> None:
        if reason == "metadata":
            self.packing.mending.fill(place, self._alone)
            return
        self.handed[reason] += 1
        self.packing.mending.fill(place, self._pillow)

    def _alone(self, place: int, sample_id: int) -> None:
        """One sample by itself: natively if that can be, else by Pillow."""
        leaf, index = locate(self.work.dataset, sample_id)
        with about(leaf, index, sample_id):
            data = leaf.encoded(index)
            image = None if leaf.raw(index) else self._image(place, leaf, index, data)
            if image is None:
                image = pixels(crop_and_resize(leaf.rgb(index, data), self.spec, self.draws[place].tolist()))
        self.packing.store(place, image, leaf, index)
        self.packing.label(place, leaf, leaf.label(index))

    def _image(self, place: int, leaf: Leaf, index: int, data: Encoded) -> Pixels | None:
        """The pixels of a sample's bytes, natively; None, counted by its reason, if Pillow must make them."""
        if self.step is None:
            self.handed["plug-in" if self.replaced else "step"] += 1
            return None
        opened, sizes = False, leaf.sizes(np.array([index], dtype=np.int64))
        while True:
            draws = self.draws[place : place + 1]
            status, height, width = self.worker.measure(data, self.step, draws[0], self.limit, opened=opened)
            if status == 0:
                image = np.empty((1, height, width, 3), dtype=np.uint8)
                (status,) = self.worker.fill_bytes(
                    [data], self.step, draws, image, self.limit, sizes=sizes, opened=opened
                )
            reason = self.work.statuses[status]
            if reason == "done":
                made: Pixels = image[0]
                return made
            if reason != "metadata" or opened or plain_jpeg(data) is None:
                self.handed[reason] += 1
                return None
            opened = True  # Pillow has read the metadata and found no fault

    def _pillow(self, place: int, sample_id: int) -> None:
        leaf, index = locate(self.work.dataset, sample_id)
        with about(leaf, index, sample_id):
            image = pixels(crop_and_resize(leaf.rgb(index), self.spec, self.draws[place].tolist()))
        self.packing.store(place, image, leaf, index)
        self.packing.label(place, leaf, leaf.label(index))


def _bytes_of(leaf: Leaf, indices: IntArray) -> list[Encoded]:
    """The bytes of several samples; none for those that Pillow's path must look at: raw or unreadable."""
    found = leaf.encoded_many(indices)
    return [
        _NOTHING if isinstance(data, SampleError) or leaf.raw(index) else data
        for data, index in zip(found, indices.tolist(), strict=True)
    ]


def _runs(group: Group) -> Iterator[Group]:
    """The group in pieces whose places follow one another: one piece if there is a single leaf."""
    cuts = np.flatnonzero(np.diff(group.places) != 1) + 1
    if not len(cuts):
        yield group
        return
    for indices, places in zip(np.split(group.indices, cuts), np.split(group.places, cuts), strict=True):
        yield Group(group.leaf, indices, places)
