"""The proof before the first epoch: the data set's own code runs on a copy, with tracers as its pipelines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torch.utils._pytree import tree_leaves
from torch.utils.data import default_collate

from fastpipe.batch.order import length
from fastpipe.batch.own.generators import generator_states
from fastpipe.batch.own.half import PASSED, Called, HostHalf, begin
from fastpipe.batch.own.handed import Used
from fastpipe.batch.own.isolated import Refused, check_changes, isolated, marks_of, words
from fastpipe.batch.own.joint import why_not_joint
from fastpipe.batch.own.sample import Place, is_pair, places_of, strange_container, without_image
from fastpipe.batch.own.twin import Path, Spot, datasets_in, fetches_several, spots_of, twin_of
from fastpipe.batch.packing import Pixels
from fastpipe.broken import is_broken_file
from fastpipe.transforms import flatten, preserved_rng

__all__ = ["Proof", "prove"]

_TRIED: Final = 16  # few broken files lie in a row at the beginning of a data set


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the trial found.

    paths: where the pipeline is, perhaps under several names. pipeline: the steps after `opening`,
    ToPILImage or RGB at the head. name: its attribute. lone: why it may be given nothing beside the image.
    alone: it is given nothing. place: of the image in a sample. pair: a sample is (image, label). draws: the
    data set draws random numbers itself. marked: samples have masks or boxes of torchvision's.
    """

    paths: tuple[Path, ...]
    name: str
    pipeline: Any = field(compare=False)
    opening: tuple[Callable[[Any], Any], ...] = field(compare=False)
    lone: str | None
    alone: bool
    place: Place
    pair: bool
    draws: bool
    marked: bool

    @property
    def plain(self) -> bool:
        """Whether a sample is (image, label), in this order, so that labels may be mixed."""
        return self.pair and self.place == (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One sample of the trial: what was called for it, its image's place, and its form."""

    called: Called
    place: Place
    pair: bool
    rest: Any


def prove(dataset: Any) -> tuple[Proof, Image.Image]:
    """Show that the pipeline's image reaches the sample unchanged, on a copy of the data set.

    The copy's samples are made with tracers in place of its pipelines: the first twice, then the last. Global
    generators are preserved. Returns an image that the pipeline was given, too. Raises Refused with the
    condition that failed.
    """
    groups = _groups(spots_of(dataset))
    several = fetches_several(dataset)
    if several is not None:
        raise Refused(f"{several} has __getitems__, which makes several samples at once")
    with preserved_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the workers raise it again, where the script expects it
        try:
            return _prove(dataset, groups)
        except Refused:
            raise
        except Exception as error:  # of any kind: a trial may not end a run
            raise Refused(f"the trial failed ({words(error)})") from error


def _groups(spots: Sequence[Spot]) -> list[list[Spot]]:
    """The places of each pipeline object."""
    groups: dict[int, list[Spot]] = {}
    for spot in spots:
        groups.setdefault(id(spot.pipeline), []).append(spot)
    if not groups:
        raise Refused("none of its attributes holds a torchvision or timm pipeline")
    return list(groups.values())


def _prove(dataset: Any, groups: Sequence[Sequence[Spot]]) -> tuple[Proof, Image.Image]:
    original = isolated(dataset, [group[0].pipeline for group in groups])
    tracers = [_tracer(group[0].pipeline) for group in groups]
    halves = {spot.path: half for group, half in zip(groups, tracers, strict=True) for spot in group}
    try:
        twin = twin_of(original, halves)
    except Exception as error:
        raise Refused(f"it cannot be copied ({words(error)})") from error
    twins = datasets_in(twin)
    before, states = marks_of(twins), generator_states()
    first_id = _first_readable(twin, tracers)
    opened = marks_of(twins)
    check_changes(before, opened, opening=True)
    which, first = _sample(twin, first_id, tracers)
    for sample_id in (first_id, max(first_id, length(dataset, 0) - 1)):
        other, again = _sample(twin, sample_id, tracers)
        if other != which:
            raise Refused("its samples use different pipelines")
        if (again.place, again.pair, again.called.alone) != (first.place, first.pair, first.called.alone):
            raise Refused("its samples differ in form, so the image is not always at the same place")
        check_changes(opened, marks_of(twins), opening=False)
    _check_collate(first.rest)
    spot = groups[which][0]
    opening, pipeline = split_opening(spot.pipeline)
    image = first.called.image
    if image is None:
        raise Refused("it does not call its transform")
    proof = Proof(
        paths=tuple(spot.path for spot in groups[which]),
        name=spot.name,
        pipeline=pipeline,
        opening=opening,
        lone=why_not_joint(spot.pipeline),
        alone=first.called.alone,
        place=first.place,
        pair=first.pair,
        draws=generator_states() != states,
        marked=not first.called.alone or any(isinstance(leaf, PASSED) for leaf in tree_leaves(first.rest)),
    )
    return proof, image


def split_opening(pipeline: Any) -> tuple[tuple[Callable[[Any], Any], ...], Any]:
    """What makes an RGB image at the head, for data sets that give arrays or any mode; and the rest."""
    steps = flatten(pipeline)
    count = next((place for place, step in enumerate(steps) if not _opens(step)), len(steps))
    return (steps[:count], v1.Compose(steps[count:])) if count else ((), pipeline)


def _opens(step: Any) -> bool:
    return type(step) in (v1.ToPILImage, v2.ToPILImage, v2.RGB) and not vars(step).get("_forward_hooks")


def _tracer(pipeline: Any) -> HostHalf:
    return HostHalf(_no_pixels, opening=split_opening(pipeline)[0], lone=why_not_joint(pipeline))


def _no_pixels(image: Image.Image) -> Pixels:
    return np.zeros((1, 1, 3), dtype=np.uint8)


def _first_readable(twin: Any, tracers: Sequence[HostHalf]) -> int:
    """The first sample whose file can be read. Its error is one in its own batch's turn."""
    for sample_id in range(min(_TRIED, length(twin, _TRIED))):
        for tracer in tracers:
            begin(tracer)
        try:
            twin[sample_id]
        except Exception as error:
            if is_broken_file(error) and not isinstance(error, Used):
                continue
        return sample_id
    return 0


def _sample(twin: Any, sample_id: int, tracers: Sequence[HostHalf]) -> tuple[int, Seen]:
    """Which tracer was called for the sample, and how."""
    records = [begin(tracer) for tracer in tracers]
    error: Exception | None = None
    sample: Any = None
    try:
        sample = twin[sample_id]
    except Exception as caught:
        error = caught
    used = [place for place, record in enumerate(records) if record.num]
    if len(used) > 1:
        raise Refused("it calls several pipelines for a sample")
    for record in records:
        if record.faults:
            raise Refused(f"it {record.faults[0]}")
    if error is not None:
        raise Refused(f"its sample {sample_id} raised {words(error)}")
    if not used:
        raise Refused("it does not call its transform")
    return used[0], _seen(sample, records[used[0]])


def _seen(sample: Any, called: Called) -> Seen:
    place = image_place(sample, called)
    if isinstance(place, str):
        raise Refused(f"it {place}")
    return Seen(called=called, place=place, pair=is_pair(sample), rest=without_image(sample, place))


def image_place(sample: Any, called: Called) -> Place | str:
    """Where the image lies in a sample, or which condition failed."""
    if called.faults:
        return called.faults[0]
    token = called.token
    if token is None:
        return "does not call its transform"
    found = list(places_of(sample, token))
    if called.faults:  # a class of the script's may look into what it contains
        return called.faults[0]
    if not found:
        return "does not return the image that its transform returned"
    if len(found) > 1:
        return "returns the image at several places of the sample"
    strange = strange_container(sample, found[0])
    return found[0] if strange is None else f"returns the image in a {strange}"


def _check_collate(rest: Any) -> None:
    try:
        default_collate([rest, rest])
    except Exception as error:
        raise Refused(f"its samples cannot be collated ({words(error)})") from error
