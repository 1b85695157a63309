"""`loader.preview()`: the images of coming batches as the model will see them, without taking them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastpipe.backends.base import BatchSource
from fastpipe.batch import Drawer
from fastpipe.batch.host_draws import draw_base_seed
from fastpipe.batch.locate import locate
from fastpipe.batch.mend import Policy
from fastpipe.batch.order import length
from fastpipe.decode.pillow import pixels
from fastpipe.errors import ArgumentError, SampleError
from fastpipe.loader.arguments import ResolutionPolicy
from fastpipe.loader.asked import Asked
from fastpipe.loader.epoch import LiftedLane, Position
from fastpipe.loader.plan import Planned, plan_asked, refuse_what_needs_lifting
from fastpipe.loader.preview.apart import apart
from fastpipe.loader.preview.lifted import Pick, decoder_of, first_picks, picks_of, rows_of
from fastpipe.loader.preview.plain import batches_by_id, batches_of_stream, plain_rows
from fastpipe.loader.preview.result import Preview
from fastpipe.loader.preview.row import Levels, Row
from fastpipe.loader.state import set_samplers
from fastpipe.loader.supply import Supply, build_source, drawer_of, lane_of
from fastpipe.transforms import preserved_rng
from fastpipe.types import Choice

# How many batches of an order of unknown length are searched for an image.
_MOST_BATCHES = 100_000
_UNKEYED = "without seed=, only the next iter() has these draws, and only if nothing else is drawn before it"
_UNAPPLIED = "engine='none' leaves the operations after the crop to the script: none is applied here"


def preview_of(
    asked: Asked,
    supply: Supply,
    resolution: ResolutionPolicy,
    *,
    images: int,
    epochs: Sequence[int] | None,
    epoch: int,
) -> Preview:
    """The first `images` of the first of the `epochs`, in each of them; None: of `epoch`, the next one.

    Samplers get `set_epoch` for given epochs only. Raises ArgumentError for wrong numbers.
    """
    _check(images, epochs)
    with preserved_rng():
        own, note = apart(asked)
        planned = plan_asked(own, None)
        work = _Work(own, planned, supply, resolution, images)
        if planned.plan is None:
            refuse_what_needs_lifting(asked, planned.reason, resized=resolution.active)
            rows, notes = _plain(work, epochs, epoch)
            originals: dict[Any, Levels] = {}
        else:
            rows, notes = _lifted(work, epochs, epoch)
            originals = _originals(own.dataset, rows)
    if not rows:
        raise ArgumentError("a preview needs at least one image. Found: an epoch without any")
    return Preview(
        rows=tuple(rows),
        title=_title(rows, asked),
        notes=tuple(filter(None, (*notes, note))),
        originals=originals,
    )


def _check(images: Any, epochs: Any) -> None:
    if isinstance(images, bool) or not isinstance(images, int) or images < 1:
        raise ArgumentError(f"images must be an int >= 1. Found: {images!r}")
    if epochs is not None and (not epochs or not all(type(one) is int and one >= 0 for one in epochs)):
        raise ArgumentError(f"epochs must be numbers from 0, at least one, or None. Found: {epochs!r}")


def _title(rows: Sequence[Row], asked: Asked) -> str:
    epochs = sorted({row.epoch for row in rows})
    num = len({row.id for row in rows}) if rows[0].id is not None else len(rows)
    words = f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {', '.join(map(str, epochs))}"
    seed = "" if asked.seed is None else f", seed {asked.seed}"
    return f"{num} images of {words}{seed}"


@dataclass(slots=True)
class _Work:
    """What makes the batches of a preview: a loader's parts, made of copies."""

    asked: Asked
    planned: Planned
    supply: Supply
    resolution: ResolutionPolicy
    images: int

    def drawers(self, epochs: Sequence[int] | None, epoch: int, choice: Choice | None) -> Iterator[Drawer]:
        """A drawer for each epoch; the seed of its draws is drawn as `iter()` draws it."""
        asked = self.asked
        for number in [epoch] if epochs is None else epochs:
            if epochs is not None:
                set_samplers(number, (asked.sampler, asked.batch_sampler))
            # Persistent workers keep the seed of their first epoch, and none is drawn for them again.
            kept = self.supply.persistent
            drawn = draw_base_seed(asked.generator) if kept is None else kept.base_seed()
            seed = drawn if asked.seed is None else asked.seed
            yield drawer_of(
                asked,
                self.planned,
                choice,
                Position(epoch=number, base_seed=seed),
                batches=asked.index_sampler,
                resolution=self.resolution,
            )

    def source(self, choice: Choice | None) -> BatchSource:
        """The chosen backend's source over the copies."""
        listed = self.supply.incidents(self.asked).listed()
        policy = Policy(on_error=self.asked.on_error, listed=listed)
        return build_source(self.asked, self.planned, policy, choice, reseed=self.asked.seed is not None)


def _lifted(work: _Work, epochs: Sequence[int] | None, epoch: int) -> tuple[list[Row], list[str]]:
    planned, asked = work.planned, work.asked
    assert planned.plan is not None
    choice = work.supply.choice(asked, planned, None)
    lane = lane_of(asked, planned, work.supply.stages, work.resolution)
    assert isinstance(lane, LiftedLane)
    decode = decoder_of(work.source(choice))
    by_epoch, ids = _picks(work, work.drawers(epochs, epoch, choice))
    made = [
        {row.id: row for row in rows_of(asked.dataset, planned.plan, lane.stage, decode, picks)}
        for picks in by_epoch
    ]
    numbers = [epoch] if epochs is None else epochs
    rows = [
        found.get(sample_id) or _absent(sample_id, number)
        for sample_id in ids
        for found, number in zip(made, numbers, strict=True)
    ]
    notes = [_UNKEYED] if asked.seed is None else []
    return rows, [*notes, _UNAPPLIED] if lane.stage.engine_name == "none" else notes


def _picks(work: _Work, drawers: Iterator[Drawer]) -> tuple[list[list[Pick]], list[int]]:
    """The places to show, by epoch, and the ids that the first epoch begins with."""
    found = [first_picks(next(drawers), work.images)]
    ids = [int(pick.request.ids[place]) for pick in found[0] for place in pick.places]
    most = length(work.asked.index_sampler, _MOST_BATCHES)
    return [*found, *(picks_of(drawer, ids, most) for drawer in drawers)], ids


def _absent(sample_id: int, epoch: int) -> Row:
    return Row(id=sample_id, name="", label="", epoch=epoch, batch=None, operations=(), pixels=None)


def _originals(dataset: Any, rows: Sequence[Row]) -> dict[Any, Levels]:
    found: dict[Any, Levels] = {}
    for row in rows:
        if row.id in found or row.pixels is None:
            continue
        leaf, index = locate(dataset, row.id)
        with contextlib.suppress(SampleError):  # on_error="replace" shows another image in its place
            found[row.id] = pixels(leaf.rgb(index))
    return found


def _plain(work: _Work, epochs: Sequence[int] | None, epoch: int) -> tuple[list[Row], list[str]]:
    asked = work.asked
    why = f"nothing is lifted, so only pixels are known and no operations: {work.planned.reason}"
    notes = [why] if asked.seed is not None else [why, _UNKEYED]
    if epochs is not None and len(epochs) > 1:
        raise ArgumentError(
            f"epochs must be one, since nothing was lifted: {work.planned.reason}. Found: {epochs!r}"
        )
    if asked.iterable:
        rows, note = plain_rows(asked, batches_of_stream(asked), work.images, epoch)
    else:
        (drawer,) = work.drawers(epochs, epoch, None)
        batches = batches_by_id(asked, drawer, work.images)
        rows, note = plain_rows(asked, batches, work.images, drawer.epoch)
    return rows, [*notes, note]
