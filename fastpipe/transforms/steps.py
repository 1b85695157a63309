"""The steps after the crop, each read as specs of the device stage (none: it only changes the form).

Forms: "pil" an RGB PIL image, "uint8" and "float" a [3,H,W] tensor, "other" anything else.
Classes match exactly: a subclass may override what its parent does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from torch import nn

from fastpipe.errors import ArgumentError
from fastpipe.transforms.crops import CROPS
from fastpipe.transforms.policy_specs import RandAugment, TorchvisionSpace, TrivialAugmentWide
from fastpipe.transforms.read import (
    Form,
    NotKnown,
    check_plain,
    float_name,
    read_fill,
    read_numbers,
    read_pair,
    read_policy_interpolation,
)
from fastpipe.transforms.specs import HorizontalFlip, Normalize, RandomErasing, ToFloat
from fastpipe.transforms.timm_steps import read_timm_erasing, read_timm_policy, timm_classes
from fastpipe.transforms.wrappers import why_opaque
from fastpipe.types import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The meaning of a step: its specs in order (none: the pixels stay the same) and the resulting form."""

    specs: tuple[Spec, ...] = ()
    form: Form


_Reader = Callable[[Any, Form], Known]


def read_step(step: Any, form: Form) -> Known:
    """The meaning of `step` for an image in `form`; NotKnown says why it has none."""
    reader = _READERS.get(type(step)) or _timm(_TIMM_READERS).get(type(step))
    if reader is None:
        raise NotKnown(_why_unknown(step))
    check_plain(step)
    if form == "other":
        raise NotKnown("what comes before it is neither an RGB image nor a [3, H, W] tensor")
    try:
        return reader(step, form)
    except ArgumentError as error:
        raise NotKnown(str(error)) from error


def form_after(step: Any, form: Form) -> Form | None:
    """The form after a step that leaves the levels of an RGB image as they are; None for any other step."""
    try:
        known = read_step(step, form)
    except NotKnown:
        return None
    return None if known.specs or known.form not in ("pil", "uint8") else known.form


def kind_of(step: Any) -> str:
    """The kind of spec for a class of torchvision or timm, or an empty string."""
    if type(step) in CROPS:
        return "crop"
    if type(step) in _AUGMENTATIONS:
        return _AUGMENTATIONS[type(step)][0].kind
    return str(_timm(_TIMM_KINDS).get(type(step), ""))


def _why_unknown(step: Any) -> str:
    if kind_of(step) == "crop":
        return "the decoder crops only at the start of the pipeline"
    for cls in type(step).__mro__[1:]:
        if cls in _READERS or cls in CROPS:
            return f"a subclass of {cls.__name__}, which may behave differently"
    return why_opaque(step) or "not a step that fastpipe knows"


def _expect(form: Form, *allowed: Form) -> None:
    if form in allowed:
        return
    if form == "pil":
        raise NotKnown("it takes a tensor but receives a PIL image here")
    raise NotKnown(f"it receives a {form} tensor here; only {' or '.join(allowed)} is known")


def _same(step: Any, form: Form) -> Known:
    return Known(form=form)


def _flip(step: Any, form: Form) -> Known:
    return Known(specs=(HorizontalFlip(p=read_numbers(step.p, "p")[0]),), form=form)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise NotKnown(f"{name}={value!r} is not a whole number")


def _on_pil(form: Form) -> None:
    if form != "pil":
        raise NotKnown("on a tensor torchvision's pixels differ from Pillow's, and ours equal Pillow's")


def _rand_augment(space: TorchvisionSpace) -> _Reader:
    def read(step: Any, form: Form) -> Known:
        _on_pil(form)
        if step.num_ops == 0:
            return Known(form=form)
        spec = RandAugment(
            num_ops=_whole(step.num_ops, "num_ops"),
            magnitude=_whole(step.magnitude, "magnitude"),
            num_magnitude_bins=_whole(step.num_magnitude_bins, "num_magnitude_bins"),
            space=space,
            interpolation=read_policy_interpolation(step.interpolation),
            fill=read_fill(step.fill),
        )
        return Known(specs=(spec,), form=form)

    return read


def _trivial_augment(space: TorchvisionSpace) -> _Reader:
    def read(step: Any, form: Form) -> Known:
        _on_pil(form)
        spec = TrivialAugmentWide(
            num_magnitude_bins=_whole(step.num_magnitude_bins, "num_magnitude_bins"),
            space=space,
            interpolation=read_policy_interpolation(step.interpolation),
            fill=read_fill(step.fill),
        )
        return Known(specs=(spec,), form=form)

    return read


def _to_tensor(step: Any, form: Form) -> Known:
    _expect(form, "pil")
    # torchvision's to_tensor gives torch's default dtype.
    return Known(specs=(ToFloat(dtype=float_name(torch.get_default_dtype())),), form="float")


def _maybe_to_tensor(step: Any, form: Form) -> Known:
    return _to_tensor(step, form) if form == "pil" else Known(form=form)


def _pil_to_tensor(step: Any, form: Form) -> Known:
    _expect(form, "pil")
    return Known(form="uint8")


def _maybe_pil_to_tensor(step: Any, form: Form) -> Known:
    return Known(form="uint8" if form == "pil" else form)


def _convert(dtype: Any, form: Form, scale: bool, rule: Literal["divide", "multiply"]) -> Known:
    if form == "uint8" and dtype == torch.uint8:
        return Known(form=form)
    scaled = scale and form == "uint8"  # from float to float torchvision only casts
    spec = ToFloat(scale=scaled, dtype=float_name(dtype), rule=rule if scaled else "divide")
    return Known(specs=(spec,), form="float")


def _convert_v1(step: Any, form: Form) -> Known:
    _expect(form, "uint8", "float")
    return _convert(step.dtype, form, scale=True, rule="divide")


def _convert_v2(step: Any, form: Form) -> Known:
    _expect(form, "uint8", "float")
    return _convert(step.dtype, form, scale=True, rule="multiply")


def _to_dtype(step: Any, form: Form) -> Known:
    if form == "pil":  # v2.ToDtype passes PIL images through
        return Known(form=form)
    return _convert(step.dtype, form, scale=bool(step.scale), rule="multiply")


def _three(value: Any, name: str) -> tuple[float, float, float]:
    numbers = read_numbers(value, name)
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != 3:
        raise NotKnown(f"{name}={value!r} is not one number or three")
    return numbers[0], numbers[1], numbers[2]


def _normalize(step: Any, form: Form) -> Known:
    _expect(form, "float")
    return Known(specs=(Normalize(mean=_three(step.mean, "mean"), std=_three(step.std, "std")),), form=form)


def _erasing(step: Any, form: Form) -> Known:
    _expect(form, "float")
    if step.value is None or isinstance(step.value, str):
        raise NotKnown("it fills with random pixels; ours fills with one number per channel")
    spec = RandomErasing(
        p=read_numbers(step.p, "p")[0],
        scale=read_pair(step.scale, "scale"),
        ratio=read_pair(step.ratio, "ratio"),
        value=_three(step.value, "value"),
    )
    return Known(specs=(spec,), form=form)


# Random steps: what they are a spec of, wherever they run, and how they are read.
_AUGMENTATIONS: dict[type, tuple[type[Spec], _Reader]] = {
    v1.RandomHorizontalFlip: (HorizontalFlip, _flip),
    v2.RandomHorizontalFlip: (HorizontalFlip, _flip),
    v1.RandAugment: (RandAugment, _rand_augment("torchvision")),
    v2.RandAugment: (RandAugment, _rand_augment("torchvision_v2")),
    v1.TrivialAugmentWide: (TrivialAugmentWide, _trivial_augment("torchvision")),
    v2.TrivialAugmentWide: (TrivialAugmentWide, _trivial_augment("torchvision_v2")),
    v1.RandomErasing: (RandomErasing, _erasing),
    v2.RandomErasing: (RandomErasing, _erasing),
}
_READERS: dict[type, _Reader] = {
    nn.Identity: _same,
    v2.Identity: _same,
    v2.ToPureTensor: _same,
    v2.RGB: _same,
    **{cls: reader for cls, (_, reader) in _AUGMENTATIONS.items()},
    v1.ToTensor: _to_tensor,
    v2.ToTensor: _maybe_to_tensor,
    v1.PILToTensor: _pil_to_tensor,
    v2.PILToTensor: _maybe_pil_to_tensor,
    v2.ToImage: _maybe_pil_to_tensor,
    v1.ConvertImageDtype: _convert_v1,
    v2.ConvertImageDtype: _convert_v2,
    v2.ToDtype: _to_dtype,
    v1.Normalize: _normalize,
    v2.Normalize: _normalize,
}


def _timm_to_tensor(step: Any, form: Form) -> Known:
    _expect(form, "pil")
    return Known(specs=(ToFloat(scale=False, dtype=float_name(step.dtype)),), form="float")


def _to_numpy(step: Any, form: Form) -> Known:
    _expect(form, "pil")
    # A uint8 array [3,H,W], which default_collate makes a tensor; no step after it is known.
    return Known(form="other")


def _timm_policy(step: Any, form: Form) -> Known:
    _on_pil(form)
    spec = read_timm_policy(step)
    return Known(specs=() if spec is None else (spec,), form=form)


def _timm_erasing(step: Any, form: Form) -> Known:
    _expect(form, "float")
    return Known(specs=(read_timm_erasing(step),), form=form)


_TIMM_READERS: dict[str, dict[str, _Reader]] = {
    "timm.data.transforms": {
        "MaybeToTensor": _maybe_to_tensor,
        "MaybePILToTensor": _maybe_pil_to_tensor,
        "ToTensor": _timm_to_tensor,
        "ToNumpy": _to_numpy,
    },
    "timm.data.auto_augment": {"RandAugment": _timm_policy},
    "timm.data.random_erasing": {"RandomErasing": _timm_erasing},
}
_TIMM_KINDS: dict[str, dict[str, str]] = {
    "timm.data.transforms": {"RandomResizedCropAndInterpolation": "crop"},
    "timm.data.auto_augment": dict.fromkeys(
        ("RandAugment", "AutoAugment", "AugMixAugment"), RandAugment.kind
    ),
    "timm.data.random_erasing": {"RandomErasing": RandomErasing.kind},
}


def _timm(tables: dict[str, dict[str, Any]]) -> dict[type, Any]:
    """The entries of a table by class, if the user's process has loaded timm."""
    found: dict[type, Any] = {}
    for module, table in tables.items():
        found |= timm_classes(module, table)
    return found
