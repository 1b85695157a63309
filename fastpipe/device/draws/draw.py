"""All random numbers of the device stage, drawn at once into one struct of arrays.

The same parameters can be handed to every engine; nothing else in the stage is random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.device.draws.batch import ColOutParams, MixParams, draw_colout, draw_mix
from fastpipe.device.draws.numbers import sample_numbers
from fastpipe.device.draws.params import OpParams
from fastpipe.device.draws.policies import Policy, draw_policy, num_uniforms
from fastpipe.errors import ArgumentError
from fastpipe.rng import Stream
from fastpipe.transforms.mix_specs import ColOut, CutMix, MixUp, RandomChoice
from fastpipe.transforms.policy_specs import RandAugment, TrivialAugmentWide
from fastpipe.transforms.resize_spec import Resize
from fastpipe.transforms.specs import HorizontalFlip, Normalize, RandomErasing, ToFloat
from fastpipe.types import Request, Spec

__all__ = ["Params", "draw"]

_TRIES = 10  # torchvision's RandomErasing gives up after ten rectangles that do not fit

LevelPass = Callable[[torch.Tensor], torch.Tensor]
"""A step as a function of the batch: uint8 [B,H,W,3] on any device, left unchanged, to a new batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasingParams:
    """Rectangles: `boxes` int64 [B,4] (top, left, height, width), `apply` bool [B], `value` per channel."""

    boxes: npt.NDArray[np.int64]
    apply: npt.NDArray[np.bool_]
    value: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeParams:
    """The size after ColOut, and how: `interpolation` and `antialias` as of `kernels.resize`."""

    height: int
    width: int
    interpolation: str = "bilinear"
    antialias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What was drawn for a batch. `flip` is bool [B]; a part is None if the plan has no such step.

    Erasing's boxes and the mix's region are in pixels of the output, after ColOut and Resize. `passes` run
    one after another after Resize, before the levels become values.
    """

    flip: npt.NDArray[np.bool_] | None = None
    ops: OpParams | None = None
    colout: ColOutParams | None = None
    resize: ResizeParams | None = None
    passes: tuple[LevelPass, ...] = ()
    erasing: ErasingParams | None = None
    mix: MixParams | None = None


Part = Literal["flip", "ops", "colout", "resize", "passes", "erasing", "mix"]
_BEFORE_PASSES = ("flip", "ops", "colout", "resize")


@dataclass(frozen=True, slots=True)
class Draw:
    """How the parameters of a step are drawn: which part of `Params` they are, and the function.

    make: of the spec, the request, and the images' height and width at the step's turn. For `passes`
    it returns one pass; any other part belongs to only one step of a plan.
    """

    part: Part
    make: Callable[[Any, Request, int, int], Any]


def draw(steps: Sequence[Spec], request: Request, height: int, width: int) -> Params:
    """The parameters of every random step, for images of height x width, in the order of the steps.

    Those per image are keyed by (seed, epoch, sample id, repeat) and the stream, those per batch by (seed,
    epoch, batch, rank) and the stream. Raises ArgumentError for a step without a draw, and for two steps that
    exclude each other.
    """
    found: dict[str, Any] = {}
    for step in steps:
        drawn = _draw_of(step)
        if drawn is not None:
            made = drawn.make(step, request, height, width)
            _put(found, drawn.part, made, step)
            height, width = step.target(height, width, request.size)
    return Params(**found)


def _draw_of(step: Spec) -> Draw | None:
    # The class itself is nearly always in the table, so its parents are rarely searched.
    for cls in type(step).__mro__:
        if cls in DRAWS:
            return DRAWS[cls]
    names = ", ".join(cls.__name__ for cls in DRAWS)
    raise ArgumentError(f"steps of the device stage must be {names}. Found: {step!r}")


def _put(found: dict[str, Any], part: Part, made: Any, step: Spec) -> None:
    if part == "passes":
        if "erasing" in found or "mix" in found:
            raise ArgumentError(f"{step!r} must come before erasing, MixUp and CutMix: it works on levels")
        found[part] = (*found.get(part, ()), made)
        return
    if part in found:
        raise ArgumentError(f"only one step may draw {part!r}. Found another: {step!r}. Remove one")
    if "passes" in found and part in _BEFORE_PASSES:
        raise ArgumentError(f"{step!r} must come before the steps that run as separate passes")
    found[part] = made


def _draw_flip(step: HorizontalFlip, request: Request, height: int, width: int) -> npt.NDArray[np.bool_]:
    return sample_numbers(request, Stream.FLIP, 1)[:, 0] < step.p


def _draw_ops(step: Policy, request: Request, height: int, width: int) -> OpParams:
    return draw_policy(step, sample_numbers(request, Stream.POLICY, num_uniforms(step)), height, width)


def _draw_resize(step: Resize, request: Request, height: int, width: int) -> ResizeParams:
    height, width = step.target(height, width, request.size)
    return ResizeParams(
        height=height, width=width, interpolation=step.interpolation, antialias=step.antialias
    )


def _draw_rectangles(step: RandomErasing, request: Request, height: int, width: int) -> ErasingParams:
    return draw_erasing(step, sample_numbers(request, Stream.ERASING, 2 * _TRIES + 3), height, width)


def draw_erasing(
    step: RandomErasing, numbers: npt.NDArray[np.float64], height: int, width: int
) -> ErasingParams:
    """Rectangles by torchvision's rule. Numbers: apply, area and log-ratio of ten tries, position."""
    boxes, apply = np.empty((len(numbers), 4), np.int64), np.empty(len(numbers), np.bool_)
    log_low, log_high = math.log(step.ratio[0]), math.log(step.ratio[1])
    _fill_boxes()(
        np.ascontiguousarray(numbers), step.p, *step.scale, log_low, log_high, height, width, boxes, apply
    )
    return ErasingParams(boxes=boxes, apply=apply, value=step.value)


@cache
def _fill_boxes() -> Callable[..., None]:
    """The compiled function. An import statement in each call would cost it 0.6 us."""
    from fastpipe.kernels.cpu.boxes import fill_boxes

    return fill_boxes


# A dict, so that a test can add its own step and remove it again.
DRAWS: dict[type, Draw | None] = {
    HorizontalFlip: Draw("flip", _draw_flip),
    RandAugment: Draw("ops", _draw_ops),
    TrivialAugmentWide: Draw("ops", _draw_ops),
    ColOut: Draw("colout", draw_colout),
    Resize: Draw("resize", _draw_resize),
    ToFloat: None,
    Normalize: None,
    RandomErasing: Draw("erasing", _draw_rectangles),
    MixUp: Draw("mix", draw_mix),
    CutMix: Draw("mix", draw_mix),
    RandomChoice: Draw("mix", draw_mix),
}
"""By class of spec; None for a step that is part of the table of levels and draws nothing."""
