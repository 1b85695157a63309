"""The crop and resize at the head of a pipeline, read as one decode spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torchvision.transforms as v1
import torchvision.transforms.v2 as v2

from fastpipe.errors import ArgumentError
from fastpipe.transforms.read import (
    Form,
    NotKnown,
    check_plain,
    read_interpolation,
    read_numbers,
    read_pair,
    read_size,
)
from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop
from fastpipe.transforms.timm_steps import read_timm_crop, timm_classes
from fastpipe.types import Size, Spec

_TENSOR_RESIZE = (
    "on a tensor torchvision resizes by other arithmetic than Pillow, with which the decoder resizes: put it "
    "before the conversion to a tensor, and it is lifted"
)

FormAfter = Callable[[Any, Form], Form | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadingCrop:
    """The decode spec (or None), the number of steps it stands for, and where and why it ended.

    form: of the image after these steps. conversions: those of them that changed it, in their order.
    """

    spec: Spec | None
    count: int
    end: int
    why: str = ""
    form: Form = "pil"
    conversions: tuple[Any, ...] = ()


def leading_crop(steps: Sequence[Any], form_after: FormAfter) -> LeadingCrop:
    """RandomResizedCrop, Resize, CenterCrop, RandomCrop, or Resize and one of the two crops, at the head.

    Steps that leave the levels of an RGB image unchanged may precede them or stand between them, such as
    `v2.ToImage`: a crop commutes with the conversion to a tensor. A resize does not.
    """
    head = LeadingCrop(spec=None, count=0, end=0)
    form: Form = "pil"
    conversions: list[Any] = []
    for seen, step in enumerate(steps, 1):
        after = form_after(step, form)
        if after is not None:
            conversions += [step] if after != form else []
            form = after
            continue
        try:
            found = _in_form(read_crop(step), form)
            spec = found if head.spec is None else _join(head.spec, found)
        except NotKnown as reason:
            return replace(head, end=seen - 1, why=str(reason))
        head = LeadingCrop(spec=spec, count=seen, end=seen, form=form, conversions=tuple(conversions))
    return replace(head, end=len(steps))


def _in_form(spec: RandomResizedCrop | ResizeCrop, form: Form) -> RandomResizedCrop | ResizeCrop:
    if form != "pil" and not (isinstance(spec, ResizeCrop) and spec.resize is None):
        raise NotKnown(_TENSOR_RESIZE)
    return spec


def read_crop(step: Any) -> RandomResizedCrop | ResizeCrop:
    """The spec of one crop or resize step; NotKnown says why it has none."""
    reader = CROPS.get(type(step)) or timm_classes("timm.data.transforms", _TIMM_CROPS).get(type(step))
    if reader is None:
        raise NotKnown("not a crop or resize")
    check_plain(step)
    try:
        return reader(step)
    except ArgumentError as error:
        raise NotKnown(str(error)) from error


def _join(first: Spec, second: RandomResizedCrop | ResizeCrop) -> Spec:
    resize = first if isinstance(first, ResizeCrop) and first.crop is None else None
    if resize and isinstance(second, ResizeCrop) and second.crop is not None:
        return replace(second, resize=resize.resize, interpolation=resize.interpolation)
    raise NotKnown("a second crop or resize; the decoder runs one of each, the resize first")


def _random_resized_crop(step: Any) -> RandomResizedCrop:
    return RandomResizedCrop(
        size=read_size(step.size),
        scale=read_pair(step.scale, "scale"),
        ratio=read_pair(step.ratio, "ratio"),
        interpolation=read_interpolation(step.interpolation),
    )


def _resize(step: Any) -> ResizeCrop:
    if step.max_size is not None or step.size is None:
        raise NotKnown("the decoder does not support max_size")
    size = read_size(step.size)
    shorter_side = isinstance(step.size, int) or len(step.size) == 1
    return ResizeCrop(
        resize=size[0] if shorter_side else size, interpolation=read_interpolation(step.interpolation)
    )


def _center_crop(step: Any) -> ResizeCrop:
    return ResizeCrop(crop=read_size(step.size))


def _random_crop_v1(step: Any) -> ResizeCrop:
    return _random_crop(step, _left_top_right_bottom(step.padding))


def _random_crop_v2(step: Any) -> ResizeCrop:
    # v2 stores (left, right, top, bottom), whatever was given.
    left, right, top, bottom = step.padding or (0, 0, 0, 0)
    return _random_crop(step, (left, top, right, bottom))


def _random_crop(step: Any, padding: tuple[int, int, int, int]) -> ResizeCrop:
    if step.pad_if_needed:
        raise NotKnown("the decoder does not support pad_if_needed")
    if any(padding) and (step.padding_mode != "constant" or not _is_black(step.fill)):
        raise NotKnown("the decoder pads only with black")
    size: Size = read_size(step.size)
    return ResizeCrop(crop=size, where="random", padding=padding)


def _is_black(fill: Any) -> bool:
    return fill is None or not any(read_numbers(fill, "fill"))


def _left_top_right_bottom(padding: Any) -> tuple[int, int, int, int]:
    numbers = (0.0,) if padding is None else read_numbers(padding, "padding")
    sides = tuple(int(number) for number in numbers)
    if len(sides) not in (1, 2, 4) or sides != numbers:
        raise NotKnown(f"padding={padding!r} is not 1, 2 or 4 whole numbers")
    left, top = sides[0], sides[1 % len(sides)]
    right, bottom = sides[2:] if len(sides) == 4 else (left, top)
    return left, top, right, bottom


CROPS: dict[type, Callable[[Any], RandomResizedCrop | ResizeCrop]] = {
    v1.RandomResizedCrop: _random_resized_crop,
    v2.RandomResizedCrop: _random_resized_crop,
    v1.Resize: _resize,
    v2.Resize: _resize,
    v1.CenterCrop: _center_crop,
    v2.CenterCrop: _center_crop,
    v1.RandomCrop: _random_crop_v1,
    v2.RandomCrop: _random_crop_v2,
}

_TIMM_CROPS: dict[str, Callable[[Any], RandomResizedCrop]] = {
    "RandomResizedCropAndInterpolation": read_timm_crop
}
