"""`loader.preview()`: the images of coming batches as the model will see them, without taking them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

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
from fastpipe.loader.preview.page import fragment, page
from fastpipe.loader.preview.plain import batches_by_id, batches_of_stream, plain_rows
from fastpipe.loader.preview.row import Levels, Row
from fastpipe.loader.preview.sheet import draw_sheet
from fastpipe.loader.state import set_samplers
from fastpipe.loader.supply import Supply, build_source, drawer_of, lane_of
from fastpipe.transforms import preserved_rng
from fastpipe.types import Choice

__all__ = ["Preview", "check_output"]

# How many batches of an order of unknown length are searched for an image.
_MOST_BATCHES = 100_000
_UNKEYED = "without seed=, only the next iter() has these draws, and only if nothing else is drawn before it"
_PAGES = (".html", ".htm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """Images as the model will see them; a notebook shows it by itself.

    rows:      one for each image and epoch, the epochs of an image in a row.
    title:     what is shown. notes: what the reader must know, such as why no operations are known.
    originals: uint8 [H,W,3] as stored, by id; empty for what is not lifted.
    """

    rows: tuple[Row, ...]
    title: str
    notes: tuple[str, ...] = ()
    originals: Mapping[Any, Levels] = field(default_factory=dict)

    @property
    def image(self) -> Image.Image:
        """The sheet as an RGB picture."""
        return draw_sheet(self.rows, self.originals, self.title, self.notes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a picture in the format of the suffix (.jpg, .png, ...), or a page (.html).

        Raises ArgumentError for a suffix that Pillow does not know, and for a place that cannot be written.
        """
        place = Path(path)
        check_output(place)
        try:
            if place.suffix.lower() in _PAGES:
                place.write_text(page(self.rows, self.title, self.notes), encoding="utf-8")
            else:
                self.image.save(place)
        except OSError as error:
            raise _unwritable(place, error.strerror or str(error)) from error

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()

    def _repr_html_(self) -> str:
        return fragment(self.rows, self.title, self.notes)


def check_output(place: Path) -> None:
    """Raise ArgumentError for a file name of another kind, and for a folder that is not there."""
    known = Image.registered_extensions()
    if place.suffix.lower() not in _PAGES and known.get(place.suffix.lower()) not in Image.SAVE:
        raise ArgumentError(
            f"the name of a preview must end in .jpg, .png, another suffix of Pillow, or .html. "
            f"Found: {str(place)!r}"
        )
    if not place.parent.is_dir():
        raise _unwritable(place, f"{str(place.parent)!r} is no folder")


def _unwritable(place: Path, reason: str) -> ArgumentError:
    return ArgumentError(f"a preview must go to a file that can be written. Found: {str(place)!r} ({reason})")


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
        planned = plan_asked(own)
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
            drawn = draw_base_seed(asked.generator)
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
        return build_source(
            self.asked, self.planned, Policy(on_error=self.asked.on_error, listed=listed), choice
        )


def _lifted(work: _Work, epochs: Sequence[int] | None, epoch: int) -> tuple[list[Row], list[str]]:
    planned, asked = work.planned, work.asked
    assert planned.plan is not None
    choice = work.supply.choice(asked, planned, None)
    lane = lane_of(asked, planned, work.supply.stages, work.resolution)
    assert isinstance(lane, LiftedLane)
    decode = decoder_of(work.source(choice))
    found: list[list[Pick]] = []
    ids: list[int] = []
    for drawer in work.drawers(epochs, epoch, choice):
        if not found:
            found.append(first_picks(drawer, work.images))
            ids = [int(pick.request.ids[place]) for pick in found[0] for place in pick.places]
        else:
            found.append(picks_of(drawer, ids, length(asked.index_sampler, _MOST_BATCHES)))
    rows = [
        (row.id, number, row)
        for number, picks in enumerate(found)
        for row in rows_of(asked.dataset, planned.plan, lane.stage, decode, picks)
    ]
    by_place = {(sample_id, number): row for sample_id, number, row in rows}
    numbers = [epoch] if epochs is None else list(epochs)
    shown = [
        by_place.get((sample_id, number)) or _absent(sample_id, numbers[number])
        for sample_id in ids
        for number in range(len(numbers))
    ]
    notes = [_UNKEYED] if asked.seed is None else []
    if lane.stage.engine_name == "none":
        notes.append("engine='none' leaves the operations after the crop to the script: none is applied here")
    return shown, notes


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
