"""Reads a loader's data set at each `iter()` and says what is lifted, or why nothing is. Never mutates."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch.utils.data
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, default_collate

from fastpipe.batch.locate import leaves, locate, parts
from fastpipe.batch.order import length
from fastpipe.batch.own.probe import Proof
from fastpipe.errors import ArgumentError, DataError
from fastpipe.loader.asked import Asked
from fastpipe.loader.own import Proofs, check_additions, lift_own, refusal_of_arguments, words_of
from fastpipe.storage import class_names, leaf_of, words_for
from fastpipe.transforms import lift, merge
from fastpipe.transforms.collate_mix import MixingCollate, mixers_named, read_collate
from fastpipe.transforms.specs import ToFloat
from fastpipe.types import Plan, Spec, StepNote

__all__ = ["Wanted", "plan_loader"]

# timm 1.0.31, timm/data/loader.py: fast_collate and PrefetchLoader.
_TIMM_COLLATE = (
    "collate_fn is timm's fast_collate, which stacks uint8 images [B, 3, H, W]; timm's PrefetchLoader "
    "already casts and normalises them on the device. To lift crop, flip and policy as well, leave out "
    "create_dataset and create_loader and use DataLoader(ImageFolder(root, create_transform(..., "
    "interpolation='bilinear'))): it is lifted, and its batches are normalised"
)


_TRIED = 16  # few broken files lie in a row at the beginning of a data set


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The plan, or None with the reason; `notes` has one line for each step of the transform.

    num_classes: of the labels, if the script's collate_fn states it. proof: of a script's own data set.
    ended: lifting ended at a sample of an earlier batch.
    """

    plan: Plan | None
    reason: str
    notes: tuple[StepNote, ...] = ()
    num_classes: int | None = None
    proof: Proof | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a script asked for that decides about lifting; as the loader's arguments are named."""

    batched: bool
    collate_fn: Callable[[Any], Any]
    augment: tuple[Spec, ...] = ()
    backend: str = "auto"
    on_error: str = "raise"
    engine: str = "fused"


def plan_asked(asked: Asked, proofs: Proofs | None) -> Planned:
    """The plan for a loader's data set as it is now; see `plan_loader`."""
    if asked.backend == "torch":
        return Planned(plan=None, reason='backend="torch" was asked for')
    wanted = Wanted(
        batched=asked.batched,
        collate_fn=asked.collate_fn,
        augment=tuple(asked.augment or ()),
        backend=asked.backend,
        on_error=asked.on_error,
        engine=asked.engine,
    )
    return plan_loader(asked.dataset, wanted, proofs)


def plan_loader(dataset: Any, wanted: Wanted, proofs: Proofs | None) -> Planned:
    """Lift the transform of a data set that has a leaf (or of Subset and ConcatDataset of such), or by proof.

    proofs: what this loader knows about a script's own data set; None: lift none of these, as for a preview.
    """
    reason = _refusal(dataset, batched=wanted.batched, collate_fn=wanted.collate_fn)
    if reason is not None:
        return Planned(plan=None, reason=reason)
    reason = _refusal_of_data(dataset)
    if reason is not None and proofs is None:
        return Planned(plan=None, reason=f"{reason}, and a preview lifts nothing by proof")
    if reason is not None and proofs is not None:
        return _by_proof(dataset, wanted, proofs, reason)
    transform = next(leaves(dataset)).transform
    lifted = lift(transform, sample=partial(_first_image, dataset))
    if lifted.plan is None:
        return Planned(plan=None, reason=lifted.reason, notes=lifted.notes)
    reason = f"{words_for({leaf.kind for leaf in leaves(dataset)})} with a torchvision pipeline"
    return _with_additions(Planned(plan=lifted.plan, reason=reason), wanted)


def _by_proof(dataset: Any, wanted: Wanted, proofs: Proofs, reason: str) -> Planned:
    """reason: why the data set has no leaf that gives its samples."""
    ended = proofs.ended(dataset)
    if ended is not None:
        return Planned(plan=None, reason=ended, ended=True)
    if any(leaf is not None and leaf.any_mode for leaf in map(leaf_of, parts(dataset))):
        return Planned(plan=None, reason=reason)
    refused = refusal_of_arguments(wanted.backend, wanted.on_error)
    if refused is not None:
        return Planned(plan=None, reason=f"{reason}, and {refused}")
    found = proofs.of(dataset)
    if isinstance(found, str):
        return Planned(plan=None, reason=f"{reason}, and {found}")
    proof, image = found
    mixes = _mixing(wanted.collate_fn) is not None
    plan, proof, refused, notes = lift_own(proof, image, mixes=mixes)
    if plan is None:
        return Planned(plan=None, reason=f"{reason}, and {refused}", notes=notes)
    if not proof.plain and mixes:
        refused = "collate_fn mixes labels, and its samples are not (image, label)"
        return Planned(plan=None, reason=f"{reason}, and {refused}")
    check_additions(proof, wanted.augment, wanted.engine)
    planned = Planned(plan=plan, reason=words_of(dataset, proof), proof=proof)
    return _with_additions(planned, wanted)


def _with_additions(planned: Planned, wanted: Wanted) -> Planned:
    """What collate_fn mixes and `augment` adds."""
    plan, mixing = planned.plan, _mixing(wanted.collate_fn)
    if plan is None:
        return planned
    if mixing is not None:
        if not any(isinstance(step, ToFloat) for step in plan.device):
            return Planned(plan=None, reason="collate_fn mixes images that the transform leaves in uint8")
        plan = _with_mixing(plan, mixing)
    plan = merge(plan, wanted.augment) if wanted.augment else plan
    num_classes = None if mixing is None else mixing.num_classes
    return replace(planned, plan=plan, notes=plan.notes, num_classes=num_classes)


def _mixing(collate_fn: Callable[[Any], Any]) -> MixingCollate | None:
    return None if collate_fn is default_collate else read_collate(collate_fn)


def _with_mixing(plan: Plan, mixing: MixingCollate) -> Plan:
    mixed = merge(plan, (mixing.spec,))
    note = replace(mixed.notes[-1], why="torchvision's, called by collate_fn on the whole batch")
    return replace(mixed, notes=(*mixed.notes[:-1], note))


def count_classes(dataset: Any, given: int | None, said: int | None = None) -> int | None:
    """The argument or the number in collate_fn, else the largest number of `classes` of a part, else None.

    0 if the labels are no class numbers, so that nobody needs to say how many there are.
    """
    if said is not None:
        if given not in (None, said):
            raise ArgumentError(f"num_classes must be {said}, as in the mixer of collate_fn. Found: {given}")
        return said
    if given is not None:
        return given
    if any(leaf_of(part) is None for part in parts(dataset)):
        return max((len(class_names(part)) for part in parts(dataset)), default=0) or None
    if not any(leaf.numbered or leaf.target_transform is not None for leaf in leaves(dataset)):
        return 0
    return max((len(leaf.classes) for leaf in leaves(dataset)), default=0) or None


def _refusal(dataset: Any, *, batched: bool, collate_fn: Callable[[Any], Any]) -> str | None:
    if isinstance(dataset, torch.utils.data.IterableDataset):
        return "the data set is an IterableDataset, which has no ids to ask for"
    if not batched:
        return "batch_size is None, so there is no batch to assemble"
    if collate_fn is not default_collate:
        if read_collate(collate_fn) is None:
            return _collate_refusal(collate_fn)
        if any(getattr(part, "target_transform", None) is not None for part in parts(dataset)):
            return "collate_fn mixes labels that a target_transform makes, and their form is not known"
    return None


def _refusal_of_data(dataset: Any) -> str | None:
    """Why no leaf gives the samples of the data set, or not those of all its parts; None if one does."""
    found = list(parts(dataset))
    for part in found:
        reason = _leaf_refusal(part)
        if reason is not None:
            return reason
    if not found or any(type(inner) not in (Subset, ConcatDataset) for inner in _wrappers(dataset)):
        return "the data set wraps other data sets in its own way"
    first, *more = leaves(dataset)
    if any(leaf.target_transform is not first.target_transform for leaf in more):
        return "the concatenated data sets have different target_transforms"
    others = {id(leaf.transform): leaf.transform for leaf in more}
    if not all(_mean_the_same(other, first.transform) for other in others.values()):
        return "the concatenated data sets have different transforms"
    return None


def _mean_the_same(one: Any, other: Any) -> bool:
    """Whether two transforms are known to be equal; nothing is known about the script's own steps."""
    if one is other:
        return True
    left, right = lift(one).plan, lift(other).plan
    if left is None or right is None or left.host or right.host:
        return False
    try:
        return replace(left, notes=()) == replace(right, notes=())
    except (TypeError, ValueError, RuntimeError):  # arrays among the settings compare to no single answer
        return False


def _collate_refusal(collate_fn: Callable[[Any], Any]) -> str:
    timm = sys.modules.get("timm.data.loader")  # never imported for this check
    if timm is not None and collate_fn is getattr(timm, "fast_collate", timm):
        return _TIMM_COLLATE
    mixers = mixers_named(collate_fn)
    if mixers:
        return (
            f"collate_fn uses torchvision's {', '.join(mixers)} in a form that may do more than "
            f"default_collate and mix: write `lambda batch: mix(*default_collate(batch))`, with "
            f"num_classes in the mixer"
        )
    return "collate_fn is the script's own, and it expects the samples one by one"


def _wrappers(dataset: Any) -> list[Any]:
    if isinstance(dataset, Subset):
        return [dataset, *_wrappers(dataset.dataset)]
    if isinstance(dataset, ConcatDataset):
        return [dataset, *(inner for part in dataset.datasets for inner in _wrappers(part))]
    return []


def _leaf_refusal(dataset: Any) -> str | None:
    leaf = leaf_of(dataset)
    if leaf is None:
        name = type(dataset).__name__
        return f"{name} is not an image folder (torchvision.datasets.ImageFolder or DatasetFolder)"
    return leaf.refusal()


def _first_image(dataset: Any) -> Image.Image:
    """An image to try unknown steps on: the first readable one of the data set.

    A sample that cannot be read is an error in its own batch's turn, or none under on_error="skip", and no
    reason to stop here: if the first few cannot be read, a grey image takes their place.
    """
    for sample_id in range(min(_TRIED, length(dataset, _TRIED))):
        try:
            leaf, index = locate(dataset, sample_id)
            return leaf.rgb(index)
        except (DataError, TypeError, IndexError):
            continue
    return Image.new("RGB", (256, 256), (128, 128, 128))


def refuse_what_needs_lifting(asked: Asked, reason: str, *, resized: bool) -> None:
    """Raise ArgumentError if an argument was given that only a lifted plan can honour."""
    names = asked.need_lifting(resized=resized)
    if names:
        raise ArgumentError(
            f"{', '.join(names)} cannot be honoured, because nothing was lifted: {reason}. "
            f"loader.explain() shows each step; leave these arguments out to run as torch does"
        )
