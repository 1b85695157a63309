"""The images of a lifted loader: the requests of its epochs, cut down to the images that are shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from fastpipe.backends.base import BatchSource
from fastpipe.batch import Drawer, RequestStream
from fastpipe.batch.locate import leaves, locate
from fastpipe.batch.packing import decode_draws
from fastpipe.decode.names import applied_by_decoder
from fastpipe.device import DeviceStage, draw
from fastpipe.device.draws.names import applied_to
from fastpipe.device.draws.part import part_of, partners_of
from fastpipe.loader.preview.labels import label_words
from fastpipe.loader.preview.levels import levels_of
from fastpipe.loader.preview.row import Levels, Row
from fastpipe.types import Applied, HostBatch, IntArray, Plan, Request, Size

Decode = Callable[[Request], HostBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A request of the epoch as it is trained on, and the places in it that are shown."""

    request: Request
    places: tuple[int, ...]


def first_picks(drawer: Drawer, num: int) -> list[Pick]:
    """The places of the first `num` different ids of an epoch."""
    picks: list[Pick] = []
    seen: set[int] = set()
    for request in _requests(drawer):
        places = []
        for place, sample_id in enumerate(request.ids.tolist()):
            if len(seen) < num and sample_id not in seen:
                seen.add(sample_id)
                places.append(place)
        picks.append(Pick(request=request, places=tuple(places)))
        if len(seen) >= num:
            break
    return picks


def picks_of(drawer: Drawer, ids: Sequence[int], most: int) -> list[Pick]:
    """The first place of each of the ids in an epoch, of which at most `most` batches are looked at."""
    picks: list[Pick] = []
    missing = set(ids)
    for request in itertools.islice(_requests(drawer), most):
        places = []
        for place, sample_id in enumerate(request.ids.tolist()):
            if sample_id in missing:
                missing.remove(sample_id)
                places.append(place)
        if places:
            picks.append(Pick(request=request, places=tuple(places)))
        if not missing:
            break
    return picks


def _requests(drawer: Drawer) -> Iterator[Request]:
    while True:
        try:
            request = drawer.draw()
        except StopIteration:
            return
        if fault := drawer.faults.pop(request.batch, None):
            raise fault
        drawer.passed(request.batch)
        yield request


class _One:
    """A drawer of one request, for a source that is to make nothing else."""

    def __init__(self, request: Request) -> None:
        self.seed, self.epoch = request.seed, request.epoch
        self._left = [request]

    def draw(self) -> Request:
        """The request; StopIteration after it."""
        if not self._left:
            raise StopIteration
        return self._left.pop()


def decoder_of(source: BatchSource) -> Decode:
    """The batch that a source makes of one request."""

    def decode(request: Request) -> HostBatch:
        return next(iter(source.start(RequestStream(_One(request)))))

    return decode


def rows_of(dataset: Any, plan: Plan, stage: DeviceStage, decode: Decode, picks: Iterable[Pick]) -> list[Row]:
    """The rows of these picks: only shown images and their partners are decoded."""
    classes = max((leaf.classes for leaf in leaves(dataset)), key=len)
    return [
        row for pick in picks if pick.places for row in _rows(dataset, plan, stage, decode, pick, classes)
    ]


def _rows(
    dataset: Any, plan: Plan, stage: DeviceStage, decode: Decode, pick: Pick, classes: Sequence[str]
) -> Iterator[Row]:
    whole = pick.request
    wanted = _with_partners(plan, pick)
    host = decode(_cut(whole, wanted))
    places = _kept(wanted, whole, host)
    if not places:
        return
    params = draw(plan.device, whole, *_size(host))
    batch = stage.hand_over(stage.apply(host, part_of(params, np.array(places, dtype=np.int64))))
    raw = stage.engine_name == "none"
    levels: Levels = batch.images.cpu().numpy() if raw else levels_of(batch.images, stage.output.table)
    for at, place in enumerate(places):
        if place not in pick.places:
            continue
        leaf, index = locate(dataset, int(whole.ids[place]))
        done = _before_the_device(dataset, plan, host, at)
        yield Row(
            id=int(whole.ids[place]),
            name=PurePath(leaf.name(index)).name,
            label=label_words(batch.labels, at, classes),
            epoch=whole.epoch,
            batch=whole.batch,
            operations=(*done, *(() if raw else applied_to(params, whole, place, _size(host)))),
            pixels=levels[at],
        )


def _size(host: HostBatch) -> Size:
    return int(host.images.shape[1]), int(host.images.shape[2])


def _before_the_device(dataset: Any, plan: Plan, host: HostBatch, at: int) -> Iterator[Applied]:
    """What policy, decoder and worker did to the image at a place of a decoded batch."""
    sample_id = int(host.request.ids[at])
    instead = {incident.sample_id: incident.substitute for incident in host.incidents}.get(sample_id)
    if instead is not None:
        yield _replaced(instead)
    leaf, index = locate(dataset, sample_id if instead is None else instead)
    image = leaf.rgb(index)
    spec, numbers = decode_draws(plan, host.request)
    yield from applied_by_decoder(spec, numbers[at].tolist(), (image.height, image.width))
    for note in plan.notes:
        if note.where == "worker":
            yield Applied(name="host", words=note.step)


def _replaced(substitute: int) -> Applied:
    words = f"broken: image {substitute} in its place"
    return Applied(name="replaced", settings={"substitute": substitute}, words=words)


def _with_partners(plan: Plan, pick: Pick) -> list[int]:
    """The places to decode, each once."""
    partners = partners_of(plan, pick.request)
    others = () if partners is None else partners[list(pick.places)].tolist()
    return list(dict.fromkeys((*pick.places, *others)))


def _cut(request: Request, places: list[int]) -> Request:
    """The request of some places alone; ids and repeats, which key the draws of an image, stay theirs."""
    rows: IntArray = np.array(places, dtype=np.int64)
    labels = None if request.labels is None else tuple(request.labels[place] for place in places)
    return replace(request, ids=request.ids[rows], repeats=request.repeats[rows], labels=labels)


def _kept(places: list[int], request: Request, host: HostBatch) -> list[int]:
    """The places that are in the batch: on_error="skip" drops those that cannot be decoded."""
    skipped = {incident.sample_id for incident in host.incidents if incident.action == "skipped"}
    return [place for place in places if int(request.ids[place]) not in skipped]
