"""The proof before the first epoch: the data set's own code runs on a copy, with tracers as its pipelines."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torch.utils._pytree import tree_leaves
from torch.utils.data import default_collate

from fastpipe.batch.order import length
from fastpipe.batch.own.generators import generator_states
from fastpipe.batch.own.half import PASSED, Called, HostHalf, begin
from fastpipe.batch.own.isolated import Followed, Refused, check_changes, isolated, marks_of, words
from fastpipe.batch.own.joint import why_not_joint
from fastpipe.batch.own.rehearsal import rehearse
from fastpipe.batch.own.sample import Place, is_pair, places_of, strange_container, without_image
from fastpipe.batch.own.twin import Path, Spot, datasets_in, fetches_several, spots_of, twin_of
from fastpipe.batch.packing import Pixels
from fastpipe.transforms import flatten, preserved_rng

__all__ = ["Proof", "prove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the trial found.

    paths: where the pipeline is, perhaps under several names. pipeline: the steps after `opening`,
    ToPILImage or RGB at the head. name: its attribute. lone: why it may be given nothing beside the image.
    alone: it is given nothing. place: of the image in a sample. pair: a sample is (image, label). draws: the
    data set draws random numbers itself. marked: samples have masks or boxes of torchvision's. watched: the
    data set must not draw, since this draws too ("its transform", "collate_fn"); "" if nothing does.
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
    watched: str = "its transform"

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

    The first readable sample is made twice with the pipelines themselves, then with tracers in their place,
    and so is the last one. Global generators are preserved. Returns an image that the pipeline was given,
    too. Raises Refused with the condition that failed.
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
    followed = [Followed(_copied(group[0].pipeline)) for group in groups]
    first_id = rehearse(_with(original, groups, followed), followed)
    which, seen, draws = _passed_on(original, groups, first_id)
    _check_collate(seen.rest)
    spot = groups[which][0]
    opening, pipeline = split_opening(spot.pipeline)
    proof = Proof(
        paths=tuple(spot.path for spot in groups[which]),
        name=spot.name,
        pipeline=pipeline,
        opening=opening,
        lone=why_not_joint(spot.pipeline),
        alone=seen.called.alone,
        place=seen.place,
        pair=seen.pair,
        draws=draws,
        marked=not seen.called.alone or any(isinstance(leaf, PASSED) for leaf in tree_leaves(seen.rest)),
    )
    if seen.called.image is None:
        raise Refused("it does not call its transform")
    return proof, seen.called.image


def _copied(pipeline: Any) -> Any:
    """A pipeline whose steps may have generators and counters of their own."""
    try:
        return copy.deepcopy(pipeline)
    except Exception as error:
        raise Refused(f"its transform cannot be copied for a trial ({words(error)})") from error


def _with(original: Any, groups: Sequence[Sequence[Spot]], stand_ins: Sequence[Callable[..., Any]]) -> Any:
    """A copy with a stand-in for the pipeline of each group."""
    pairs = zip(groups, stand_ins, strict=True)
    return twin_of(original, {spot.path: stand_in for group, stand_in in pairs for spot in group})


def _passed_on(original: Any, groups: Sequence[Sequence[Spot]], first_id: int) -> tuple[int, Seen, bool]:
    """With tracers as pipelines: which is called, how its image goes on, and whether the data set draws."""
    tracers = [_tracer(group[0].pipeline) for group in groups]
    twin = _with(original, groups, tracers)
    twins, states = datasets_in(twin), generator_states()
    before = marks_of(twins)
    which, first = _sample(twin, first_id, tracers)
    opened = marks_of(twins)
    check_changes(before, opened, opening=True)
    last_id = length(original, 0) - 1
    if last_id > first_id:
        with suppress(OSError):  # a broken file, whose turn comes
            _check_alike((which, first), _sample(twin, last_id, tracers))
        check_changes(opened, marks_of(twins), opening=False)
    return which, first, generator_states() != states


def _check_alike(one: tuple[int, Seen], other: tuple[int, Seen]) -> None:
    if one[0] != other[0]:
        raise Refused("its samples use different pipelines")
    forms = [(seen.place, seen.pair, seen.called.alone) for _, seen in (one, other)]
    if forms[0] != forms[1]:
        raise Refused("its samples differ in form, so the image is not always at the same place")


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
        raise error
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
