"""timm's own transform classes as specs, if the user's process has loaded timm; it is never imported.

Read from timm 1.0.31: timm/data/{transforms,auto_augment,random_erasing}.py. What `create_transform` makes
is known completely if its `interpolation` is "bilinear" or "nearest" (a crop may have any filter of
Pillow's): with "random", timm draws a filter for each image and operation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastpipe.transforms.policy_specs import RandAugment
from fastpipe.transforms.read import (
    NotKnown,
    read_fill,
    read_interpolation,
    read_numbers,
    read_pair,
    read_policy_interpolation,
    read_size,
)
from fastpipe.transforms.specs import RandomErasing, RandomResizedCrop

_NAMES = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
_GROWING = frozenset({"Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness"})
_INCREASING = tuple(f"{name}Increasing" if name in _GROWING else name for name in _NAMES)
_TRANSLATION = 0.45  # timm's share of the side at level 10
_LEVELS = 10.0


def timm_classes(module: str, readers: Mapping[str, Any]) -> dict[type, Any]:
    """`readers` by class instead of by name; empty if the process has not loaded timm's `module`."""
    loaded = sys.modules.get(module)
    return {getattr(loaded, name): reader for name, reader in readers.items() if hasattr(loaded, name)}


def read_timm_crop(step: Any) -> RandomResizedCrop:
    """RandomResizedCropAndInterpolation: torchvision's rule, with one filter."""
    if isinstance(step.interpolation, Sequence) and not isinstance(step.interpolation, str):
        raise NotKnown("it draws a filter for each image; give create_transform interpolation='bilinear'")
    return RandomResizedCrop(
        size=read_size(step.size),
        scale=read_pair(step.scale, "scale"),
        ratio=read_pair(step.ratio, "ratio"),
        interpolation=read_interpolation(step.interpolation),
    )


def read_timm_erasing(step: Any) -> RandomErasing:
    """RandomErasing with one black (after normalisation: mean) rectangle; its other modes draw pixels."""
    if step.rand_color or step.per_pixel:
        raise NotKnown(f"mode={step.mode!r} fills with random pixels; ours fills with one number per channel")
    if (step.min_count, step.max_count) != (1, 1):
        raise NotKnown("it erases several rectangles; ours erases one")
    low, high = read_pair(step.log_aspect_ratio, "log_aspect_ratio")
    return RandomErasing(
        p=read_numbers(step.probability, "probability")[0],
        scale=(float(step.min_area), float(step.max_area)),
        ratio=(math.exp(low), math.exp(high)),
    )


def read_timm_policy(step: Any) -> RandAugment | None:
    """RandAugment over timm's fifteen operations, increasing or not; None for no operations at all.

    timm may ask Pillow 13 for 0 bits, which Pillow refuses; ours gives black.
    """
    if step.choice_weights is not None:
        raise NotKnown("its operations have weights; ours are equally likely")
    ops = list(step.ops)
    names = tuple(getattr(op, "name", "") for op in ops)
    if names not in (_NAMES, _INCREASING):
        raise NotKnown("its operations are not the fifteen of timm's RandAugment")
    settings = [_settings(op) for op in ops]
    if any(other != settings[0] for other in settings[1:]):
        raise NotKnown("its operations have different settings")
    if step.num_layers == 0:
        return None
    return RandAugment(
        space="timm", num_ops=int(step.num_layers), increasing=names == _INCREASING, **settings[0]
    )


def _settings(op: Any) -> dict[str, Any]:
    """The settings of one operation. NotKnown for one that was changed after timm made it."""
    module = sys.modules[type(op).__module__]
    _check_op(op, module)
    pct = op.hparams.get("translate_pct", _TRANSLATION)
    if pct != _TRANSLATION:
        raise NotKnown(f"translate_pct={pct!r}; only timm's own {_TRANSLATION} is known")
    resample = op.kwargs["resample"]
    if isinstance(resample, Sequence):
        raise NotKnown(
            "its warps draw bilinear or bicubic each time; give create_transform interpolation='bilinear'"
        )
    fill = read_numbers(op.kwargs["fillcolor"], "img_mean")
    if any(not number.is_integer() for number in fill):
        raise NotKnown(f"img_mean={op.kwargs['fillcolor']!r} is not in whole levels")
    return {
        "p": float(op.prob),
        "magnitude": float(op.magnitude),
        "mstd": float(op.magnitude_std),
        "mmax": float(op.magnitude_max or _LEVELS),
        "interpolation": read_policy_interpolation(resample),
        "fill": read_fill(fill),
    }


def _check_op(op: Any, module: Any) -> None:
    """Raise NotKnown unless `op` is timm's AugmentOp with timm's own functions."""
    if module.__name__ != "timm.data.auto_augment" or type(op) is not module.AugmentOp:
        raise NotKnown(f"its operations include {type(op).__name__}, which is not timm's")
    functions: tuple[Callable[..., Any] | None, ...] = (op.aug_fn, op.level_fn)
    if functions != (module.NAME_TO_OP.get(op.name), module.LEVEL_TO_ARG.get(op.name)):
        raise NotKnown(f"the functions of its operation {op.name!r} are not timm's")
