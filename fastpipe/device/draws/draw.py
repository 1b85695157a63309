"""All random numbers of the device stage, drawn at once into one struct of arrays.

The same parameters can be handed to every engine; nothing else in the stage is random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from fastpipe.device.draws.batch import ColOutParams, MixParams, draw_colout, draw_mix
from fastpipe.device.draws.numbers import sample_numbers
from fastpipe.device.draws.policies import OpParams, draw_policy, num_uniforms
from fastpipe.rng import Stream
from fastpipe.transforms.specs import (
    ColOut,
    CutMix,
    HorizontalFlip,
    MixUp,
    RandAugment,
    RandomChoice,
    RandomErasing,
    Resize,
    TrivialAugmentWide,
)
from fastpipe.types import Request, Spec

__all__ = ["ErasingParams", "Params", "ResizeParams", "draw", "draw_erasing"]

# Tuples: isinstance takes three times as long with a union (0.3 us), and every step of a plan is asked.
_POLICIES, _MIXING = (RandAugment, TrivialAugmentWide), (MixUp, CutMix, RandomChoice)
_TRIES = 10  # torchvision's RandomErasing gives up after ten rectangles that do not fit


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
    """What was drawn for a batch. `flip` is bool [B]; a part is None where the plan has no such step.

    Erasing's boxes and the mix's region are in pixels of the output, after ColOut and Resize.
    """

    flip: npt.NDArray[np.bool_] | None = None
    ops: OpParams | None = None
    colout: ColOutParams | None = None
    resize: ResizeParams | None = None
    erasing: ErasingParams | None = None
    mix: MixParams | None = None


def draw(steps: Sequence[Spec], request: Request, height: int, width: int) -> Params:
    """The parameters of every random step, for images of height x width, in the order of the steps.

    Those per image are keyed by (seed, epoch, sample id, repeat) and the stream, those per batch by (seed,
    epoch, batch, rank) and the stream.
    """
    flip = ops = colout = resize = erasing = mix = None
    for step in steps:
        if isinstance(step, HorizontalFlip):
            flip = sample_numbers(request, Stream.FLIP, 1)[:, 0] < step.p
        elif isinstance(step, _POLICIES):
            numbers = sample_numbers(request, Stream.POLICY, num_uniforms(step))
            ops = draw_policy(step, numbers, height, width)
        elif isinstance(step, RandomErasing):
            numbers = sample_numbers(request, Stream.ERASING, 2 * _TRIES + 3)
            erasing = draw_erasing(step, numbers, height, width)
        elif isinstance(step, ColOut):
            colout = draw_colout(step, request, height, width)
            height, width = len(colout.rows), len(colout.columns)
        elif isinstance(step, Resize):
            height, width = step.target(height, width, request.size)
            resize = ResizeParams(
                height=height, width=width, interpolation=step.interpolation, antialias=step.antialias
            )
        elif isinstance(step, _MIXING):
            mix = draw_mix(step, request, height, width)
    return Params(flip=flip, ops=ops, colout=colout, resize=resize, erasing=erasing, mix=mix)


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
