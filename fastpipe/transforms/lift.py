"""Turns a torchvision pipeline into a plan: the shares of the decoder, the workers and the device stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torch import nn
from torchvision.transforms._presets import ImageClassification

from fastpipe.transforms.arrange import arrange
from fastpipe.transforms.crops import LeadingCrop, leading_crop
from fastpipe.transforms.read import Form, NotKnown, check_plain, describe
from fastpipe.transforms.steps import Known, form_after, kind_of, read_step
from fastpipe.transforms.trial import Trial
from fastpipe.transforms.wrappers import unwrap, why_opaque
from fastpipe.types import Plan, Spec, StepNote

__all__ = ["Lifted", "flatten", "lift"]

Sample = Image.Image | Callable[[], Image.Image]

_BEFORE = "comes before a step that runs on the workers"
_SAME = "known: leaves the pixels as they are"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """The plan, or None with the reason why nothing was lifted. `notes`: one per step, in order."""

    plan: Plan | None
    reason: str = ""
    notes: tuple[StepNote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """For each step after the crop its meaning, or why it is unknown; the forms before, between and after."""

    meanings: tuple[Known | str, ...]
    forms: tuple[Form, ...]
    words: tuple[str, ...]


def lift(transform: Any, *, sample: Sample | None = None) -> Lifted:
    """Split `transform` (a v1 or v2 pipeline, one transform, an nn.Sequential, or None) without changing it.

    `sample` is an image of the data set, or a function that reads one if it is needed. Copies of the steps
    that fastpipe does not know are run once on it, with the global generators preserved, to see whether they
    return an RGB PIL image or a uint8 [3,H,W] tensor; if not, nothing is lifted. Without a sample these
    steps are
    assumed to return the form that they received: a plan whose `host` is not empty is then provisional (the
    caller must check before trusting it), and a step that changes the form leads to a refusal.
    """
    steps = flatten(transform)
    head = leading_crop(steps, form_after)
    try:
        reading = _read(steps, head, sample)
        cut, device, why = _cut(reading)
        _check(steps, reading, cut, head, device)
    except NotKnown as reason:
        return _refuse(steps, str(reason))
    notes = tuple(_notes(steps, head, reading, cut, why))
    # The decoder gives PIL images; steps that were given tensors get them on the workers too.
    host = (*head.conversions, *steps[head.count : head.count + cut]) if cut else ()
    return Lifted(plan=Plan(decode=head.spec, host=host, device=device, notes=notes), notes=notes)


def flatten(transform: Any) -> tuple[Any, ...]:
    """The single steps: Compose, nn.Sequential, torchvision's presets and plain wrappers are opened."""
    if transform is None:
        return ()
    try:
        check_plain(transform)
    except NotKnown:
        return (transform,)
    if type(transform) in (v1.Compose, v2.Compose):
        return tuple(step for part in transform.transforms for step in flatten(part))
    if type(transform) is nn.Sequential:
        return tuple(step for part in transform for step in flatten(part))
    if type(transform) is ImageClassification:
        return _open_preset(transform)
    inner = unwrap(transform)
    return (transform,) if inner is None else flatten(inner)


def _open_preset(preset: Any) -> tuple[Any, ...]:
    """The steps of `weights.transforms()`; its conversion leaves tensors unchanged, as v2's does."""
    return (
        v1.Resize(preset.resize_size, interpolation=preset.interpolation, antialias=preset.antialias),
        v1.CenterCrop(preset.crop_size),
        v2.PILToTensor(),
        v1.ConvertImageDtype(torch.float),
        v1.Normalize(preset.mean, preset.std),
    )


def _read(steps: Sequence[Any], head: LeadingCrop, sample: Sample | None) -> _Reading:
    """Read the steps after the crop, which begins with an RGB PIL image, as from ImageFolder."""
    trial: Trial | None = None
    form = head.form
    words = "an RGB PIL image" if form == "pil" else f"a {form} tensor"
    meanings: list[Known | str] = []
    forms, all_words = [form], [words]
    for place in range(head.count, len(steps)):
        try:
            known = read_step(steps[place], form)
            meanings.append(known)
            form, words = known.form, f"a {known.form} tensor" if known.form != "pil" else words
        except NotKnown as reason:
            meanings.append(str(reason))
            if sample is not None:
                trial = trial or Trial(steps, sample() if callable(sample) else sample)
                form, words = trial.form_after(place + 1)
        forms.append(form)
        all_words.append(words)
    return _Reading(meanings=tuple(meanings), forms=tuple(forms), words=tuple(all_words))


def _cut(reading: _Reading) -> tuple[int, tuple[Spec, ...], str]:
    """The first place from which all steps are known and fit the device's order, their specs, and why."""
    meanings = reading.meanings
    unknown = [place for place, meaning in enumerate(meanings) if isinstance(meaning, str)]
    cut = unknown[-1] + 1 if unknown else 0
    why = _BEFORE
    while True:
        specs = [spec for meaning in meanings[cut:] if isinstance(meaning, Known) for spec in meaning.specs]
        try:
            return cut, arrange(specs), why
        except NotKnown as reason:
            cut, why = cut + 1, str(reason)


def _check(
    steps: Sequence[Any], reading: _Reading, cut: int, head: LeadingCrop, device: tuple[Spec, ...]
) -> None:
    """Raise NotKnown if the device stage cannot take over at the cut, or has nothing to take over."""
    if cut and reading.forms[cut] not in ("pil", "uint8"):
        last = steps[head.count + cut - 1]
        opaque = why_opaque(last)
        raise NotKnown(
            "the steps on the workers must end in an RGB PIL image or a uint8 [3, H, W] tensor; "
            f"after {describe(last)} it is {reading.words[cut]}" + (f"; it {opaque}" if opaque else "")
        )
    if reading.forms[-1] == "pil":
        raise NotKnown(
            "the pipeline ends with a PIL image, which torch's default_collate refuses; "
            "end it with ToTensor or PILToTensor"
        )
    if cut and head.spec is None and not device:
        raise NotKnown("fastpipe knows none of its steps")


def _refuse(steps: Sequence[Any], reason: str) -> Lifted:
    notes = tuple(StepNote(step=describe(step), where="torch", why="nothing was lifted") for step in steps)
    return Lifted(plan=None, reason=reason, notes=notes)


def _notes(
    steps: Sequence[Any], head: LeadingCrop, reading: _Reading, cut: int, why: str
) -> Iterator[StepNote]:
    for step in steps[: head.count]:
        if not any(step is conversion for conversion in head.conversions):
            yield StepNote(step=describe(step), where="decoder", why="cropped and resized while decoding")
        elif cut:
            yield StepNote(step=describe(step), where="worker", why=_BEFORE)
        else:
            yield StepNote(step=describe(step), where="device", why=_SAME)
    for place, (step, meaning) in enumerate(zip(steps[head.count :], reading.meanings, strict=True)):
        if isinstance(meaning, str):
            misfit = kind_of(step) == "crop" and head.count + place == head.end
            yield StepNote(step=describe(step), where="worker", why=head.why if misfit else meaning)
        elif place < cut:
            later = any(isinstance(other, str) for other in reading.meanings[place:])
            yield StepNote(step=describe(step), where="worker", why=_BEFORE if later else why)
        else:
            done = "known: done for the whole batch"
            yield StepNote(step=describe(step), where="device", why=done if meaning.specs else _SAME)
