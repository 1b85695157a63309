"""What a worker does with a request for a script's own data set: its samples, each one checked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
import torch.utils.data
from torch.utils.data import default_collate

from fastpipe.batch.buffer import allocate, without_samples
from fastpipe.batch.mend import OnError
from fastpipe.batch.own.generators import GeneratorStates
from fastpipe.batch.own.half import Called, HostHalf, begin
from fastpipe.batch.own.handed import Handed, pixels_of
from fastpipe.batch.own.isolated import words
from fastpipe.batch.own.probe import Proof, image_place
from fastpipe.batch.own.results import KEPT, NotLifted, OwnBatch
from fastpipe.batch.own.sample import is_pair, without_image
from fastpipe.batch.own.twin import Snapshot, twin_of
from fastpipe.batch.own.worker_copy import Rendering, WorkerCopy
from fastpipe.batch.packing import Pixels, decode_step
from fastpipe.batch.worker import own_generators, reseed, skipped
from fastpipe.broken import is_broken_file
from fastpipe.rng import Stream, integer_seeds
from fastpipe.types import HostBatch, Incident, Plan, Request

__all__ = ["OwnWork"]


def _references(called: Called) -> int:
    """How many references there are to the token of a sample that was dropped."""
    token = called.token
    return sys.getrefcount(token)


# Counted, because interpreters differ in what a local variable counts.
_OURS: Final = _references(Called(0, [], Handed(np.zeros((1, 1, 3), dtype=np.uint8), [])))


class _Broke(Exception):
    """A condition that a sample broke."""


class OwnWork(torch.utils.data.Dataset[Any]):
    """Makes the samples of a request by the data set's own `__getitem__`, our host half as its pipeline.

    The copy that has the host half is made where it is used: in each worker process. Gives an OwnBatch, or a
    plain HostBatch for samples of the form (image, label), or NotLifted.
    """

    def __init__(self, dataset: Any, plan: Plan, proof: Proof, *, reseed: bool, on_error: OnError) -> None:
        self.dataset = dataset
        self.plan = plan
        self.proof = proof
        self.reseed = reseed
        self.on_error = on_error
        # Draws of a data set whose pipeline draws too may belong together with the pipeline's. Those of
        # `augment` cannot: they are of this library's own streams.
        self.watched = GeneratorStates() if proof.watched else None
        self._made: WorkerCopy | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}

    def __getitem__(self, request: Request) -> HostBatch | NotLifted:
        began = time.thread_time()
        with own_generators() if self.reseed else nullcontext():
            made = self._batch(request)
        if isinstance(made, HostBatch):
            made.to_pillow, made.cpu_seconds = {}, time.thread_time() - began
        return made

    def _batch(self, request: Request) -> HostBatch | NotLifted:
        try:
            assembly = _Assembly(self, request)
        except Exception as error:
            condition = f"cannot be copied ({words(error)})"
            return NotLifted(request=request, sample_id=None, condition=condition)
        return assembly.run()

    def made(self) -> WorkerCopy:
        """The copy and its host half; anew if the script has set an attribute."""
        if self._made is None or not self._made.original.is_of(self.dataset):
            rendering = Rendering(self.plan, self.watched)
            half = HostHalf(rendering, opening=self.proof.opening, lone=self.proof.lone)
            twin = twin_of(self.dataset, dict.fromkeys(self.proof.paths, half))
            self._made = WorkerCopy(Snapshot(self.dataset), Snapshot(twin), twin, half, rendering)
        return self._made


class _Assembly:
    """One batch under construction."""

    def __init__(self, work: OwnWork, request: Request) -> None:
        self.work = work
        self.request = request
        self.asked = list(request.asked)
        self.made = work.made()
        self.made.rendering.spec, self.draws = decode_step(work.plan, request)
        keys = (request.seed, request.epoch, request.ids, request.repeats)
        self.seeds = integer_seeds(*keys, Stream.HOST).tolist() if work.reseed else None
        self.images: list[Pixels] = []
        self.rests: list[Any] = []
        self.kept: list[int] = []
        self.incidents: list[Incident] = []

    def run(self) -> HostBatch | NotLifted:
        sample_id = None
        try:
            for place, sample_id in enumerate(self.asked):
                self._add(place, sample_id)
                self._check_attributes()
            return self._finished()
        except _Broke as broke:
            return NotLifted(request=self.request, sample_id=sample_id, condition=str(broke))

    def _check_attributes(self) -> None:
        name = self.made.begun.changed()
        if name is not None:
            raise _Broke(f"has changed its attribute {name!r}, so a sample may not be made twice")

    def _add(self, place: int, sample_id: Any) -> None:
        if self.seeds is not None:
            reseed(self.seeds[place])
        self.made.rendering.draws = self.draws[place]
        if self.work.watched is not None:
            self.work.watched.begin()
        called = begin(self.made.half)
        try:
            sample = self.made.twin[sample_id]
        except Exception as error:
            self._failed(called, sample_id, error)
            return
        try:
            rest = self._checked(called, sample)
            del sample
            self._take(place, called, rest)
        except _Broke:
            raise
        except Exception as error:  # of any kind: what cannot be checked is not lifted
            raise _Broke(f"returns a sample that cannot be checked ({words(error)})") from error

    def _failed(self, called: Called, sample_id: Any, error: Exception) -> None:
        """An error before the pipeline returned is the script's own, as without lifting."""
        if called.faults:
            raise _Broke(called.faults[0]) from error
        if called.token is not None:
            raise _Broke(f"raised {type(error).__name__} after its transform: {error}") from error
        if self.work.on_error == "raise" or not is_broken_file(error):
            raise error
        self.incidents.append(skipped(self.work.dataset, sample_id, error))

    def _checked(self, called: Called, sample: Any) -> Any:
        """The sample without its image."""
        if self.work.watched is not None and self.work.watched.moved():
            raise _Broke(f"draws from, or seeds, a global generator, and so does {self.work.proof.watched}")
        proof, place = self.work.proof, image_place(sample, called)
        if isinstance(place, str):
            raise _Broke(place)
        form = (place, is_pair(sample), called.alone)
        if form != (proof.place, proof.pair, proof.alone):
            raise _Broke("returns a sample of another form than the first")
        return without_image(sample, place)

    def _take(self, place: int, called: Called, rest: Any) -> None:
        if _references(called) > _OURS:
            raise _Broke(KEPT)
        if called.token is None:
            raise _Broke("does not call its transform")
        pixels = pixels_of(called.token)
        if self.images and pixels.shape != self.images[0].shape:
            raise _Broke(f"has an image of {pixels.shape[:2]} pixels after {self.images[0].shape[:2]}")
        self.images.append(pixels)
        self.rests.append(rest)
        self.kept.append(place)

    def _finished(self) -> HostBatch:
        request = self.request
        incidents = tuple(self.incidents)
        if not self.images and not incidents:
            raise _Broke("is asked for a batch of no samples")
        if not self.kept:
            return without_samples(_of(request, []), incidents)
        try:
            with torch.device("cpu"):  # independent of the script's default device
                rest = default_collate(self.rests)
        except Exception as error:  # the unlifted batch raises it in torch's own words
            raise _Broke(f"gives samples that cannot be collated ({words(error)})") from error
        images = allocate(len(self.images), *self.images[0].shape[:2])
        for target, pixels in zip(images.numpy(), self.images, strict=True):
            target[...] = pixels
        make: Callable[..., OwnBatch] = partial(
            OwnBatch, images=images, request=_of(request, self.kept), incidents=incidents
        )
        if self.work.proof.plain:
            return make(labels=rest[1])
        return make(labels=None, rest=rest)


def _of(request: Request, kept: Sequence[int]) -> Request:
    if len(kept) == len(request.ids):
        return request
    places = list(kept)
    return replace(request, ids=request.ids[places], repeats=request.repeats[places])
