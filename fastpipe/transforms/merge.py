"""Additions to a plan: `augment=[...]`, and another resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastpipe.errors import ArgumentError
from fastpipe.transforms.read import describe
from fastpipe.transforms.resize_spec import Resize
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop, ToFloat
from fastpipe.transforms.step_table import rank_of, step_of
from fastpipe.transforms.steps import kind_of
from fastpipe.types import Plan, Size, Spec, StepNote

__all__ = ["merge", "with_size"]


def merge(plan: Plan, augment: Sequence[Spec]) -> Plan:
    """The plan with `augment` added, each at its place; the plan's own order is kept.

    A crop becomes the decode step, ahead of the steps that the plan runs on the workers. Raises
    ArgumentError for something that is not a spec, for the same kind twice (even if the plan's step runs on
    a worker), and for Normalize, RandomErasing, MixUp or CutMix in a plan that stays uint8.
    """
    decode, device = plan.decode, list(plan.device)
    taken = _taken(plan)
    for spec in augment:
        _check(spec, taken)
        taken[spec.kind] = repr(spec)
        if step_of(spec).where == "decoder":
            decode = spec
        else:
            device.insert(_place(device, spec), spec)
    _check_float(device, augment)
    notes = tuple(_note(spec) for spec in augment)
    return replace(plan, decode=decode, device=tuple(device), notes=(*plan.notes, *notes))


def with_size(plan: Plan, size: int | Size) -> Spec | None:
    """The decode spec that gives images of `size` (pixels, or height and width).

    If a Resize on the device takes the size instead, it is the plan's own. A resize before a crop is scaled
    by the same factor as the crop, to the nearest pixel. Raises ArgumentError if no step of the plan
    determines the size, or if it crops without a resize.
    """
    new = (size, size) if isinstance(size, int) else size
    spec = plan.decode
    if any(isinstance(step, Resize) for step in plan.device):
        return spec
    if isinstance(spec, RandomResizedCrop):
        return replace(spec, size=new)
    if isinstance(spec, ResizeCrop) and spec.crop is None and isinstance(spec.resize, tuple):
        return replace(spec, resize=new)
    if not isinstance(spec, ResizeCrop) or spec.crop is None:
        raise ArgumentError(
            f"resolution= needs a crop at the head of the pipeline. Found: {spec!r}. "
            "Add RandomResizedCrop, or Resize and CenterCrop, to the transform"
        )
    return _scaled(spec, spec.crop, new)


def _scaled(spec: ResizeCrop, crop: Size, new: Size) -> ResizeCrop:
    if spec.resize is None:
        if new == crop:
            return spec
        raise ArgumentError(
            f"resolution= cannot shrink a crop that is not resized: it would show less. Found: {spec!r}. "
            "Use RandomResizedCrop, or put Resize before the crop"
        )
    if isinstance(spec.resize, int):
        side = crop.index(min(crop))
        resize: int | Size = _nearest(spec.resize * new[side], crop[side])
    else:
        resize = (_nearest(spec.resize[0] * new[0], crop[0]), _nearest(spec.resize[1] * new[1], crop[1]))
    return replace(spec, resize=resize, crop=new)


def _nearest(numerator: int, denominator: int) -> int:
    """The quotient rounded to the nearest integer, halves up, at least 1."""
    return max(1, (2 * numerator + denominator) // (2 * denominator))


def _taken(plan: Plan) -> dict[str, str]:
    """The kinds of steps that the plan already has, wherever they run, each with its description."""
    taken = {kind_of(step): describe(step) for step in plan.host if kind_of(step)}
    specs = (*plan.device, plan.decode) if plan.decode is not None else plan.device
    return taken | {spec.kind: repr(spec) for spec in specs}


def _check(spec: Spec, taken: dict[str, str]) -> None:
    if step_of(spec).kind in taken:
        raise ArgumentError(
            f"augment adds {spec!r}, but the pipeline already has a step of that kind: {taken[spec.kind]}. "
            "Remove one of the two"
        )


def _place(device: Sequence[Spec], spec: Spec) -> int:
    """The place before the first step of a later rank."""
    rank = rank_of(spec)
    return next((place for place, other in enumerate(device) if rank_of(other) > rank), len(device))


def _check_float(device: Sequence[Spec], augment: Sequence[Spec]) -> None:
    if any(isinstance(spec, ToFloat) for spec in device):
        return
    for spec in augment:
        if step_of(spec).pixels == "float":
            raise ArgumentError(
                f"augment adds {spec!r} to a pipeline that stays uint8. Add fastpipe.augment.ToFloat() too"
            )


def _note(spec: Spec) -> StepNote:
    return StepNote(step=describe(spec), where=step_of(spec).where, why="added by augment=")
