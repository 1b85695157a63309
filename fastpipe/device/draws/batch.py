"""What is drawn once per batch: ColOut's rows and columns, the weight and partners of MixUp and CutMix.

Numbers come from `batch_numbers`, keyed by (seed, epoch, batch, rank): every rank mixes its own batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastpipe.device.draws.numbers import batch_numbers
from fastpipe.rng import Stream
from fastpipe.transforms.mix_specs import (
    ColOut,
    CutMix,
    MixUp,
    RandomChoice,
    TorchvisionCutMix,
    TorchvisionMixUp,
)
from fastpipe.types import Request

Mixing = MixUp | CutMix | RandomChoice
Box = tuple[int, int, int, int]

# choice, two for the beta variate, centre y and x.
_MIX_NUMBERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ColOutParams:
    """The rows [h] and columns [w] that stay, int64, increasing, shared by the whole batch."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixParams:
    """partner: int64 [B], a permutation. weight: the partner's share of the label, a float32 value in [0, 1].

    region: None for MixUp, whose pixels take the same share; for CutMix the box (top, left, height, width) in
    pixels of the output that comes entirely from the partner.
    """

    partner: npt.NDArray[np.int64]
    weight: float
    region: Box | None = None

    @property
    def pixel_weight(self) -> float:
        """The partner's share of the pixels that are mixed."""
        return self.weight if self.region is None else 1.0


def draw_colout(spec: ColOut, request: Request, height: int, width: int) -> ColOutParams:
    """The rows and the columns that stay, as many as `spec.target` says, without replacement, sorted."""
    numbers = batch_numbers(request, Stream.COLOUT, height + width)
    rows, columns = spec.target(height, width)
    return ColOutParams(rows=smallest(numbers[:height], rows), columns=smallest(numbers[height:], columns))


def smallest(numbers: npt.NDArray[np.float64], num: int) -> npt.NDArray[np.int64]:
    """The places of the `num` smallest numbers, in order: every subset of that size is equally likely."""
    # Methods rather than np.partition and np.flatnonzero: 6 us against 9.
    ordered = numbers.copy()
    ordered.partition(num - 1)
    places: npt.NDArray[np.int64] = (numbers <= ordered[num - 1]).nonzero()[0]
    if len(places) > num:  # equal numbers at the limit (probability 2^-53 per pair): the first of them stay
        places = np.sort(np.argsort(numbers, kind="stable")[:num])
    return places


def mix_options(spec: Mixing) -> tuple[MixUp | CutMix, ...]:
    """The kinds that the step may be drawn as."""
    return tuple(spec.options) if isinstance(spec, RandomChoice) else (spec,)


def draw_mix(spec: Mixing, request: Request, height: int, width: int) -> MixParams:
    """Weight, partners and box for the images of the request; height x width is their size at this step."""
    choice, first, second, *center = batch_numbers(request, Stream.MIX, _MIX_NUMBERS).tolist()
    chosen = _choose(spec, choice)
    partner = _partners(chosen, request)
    smaller, upper = symmetric_beta(chosen.alpha, first, second)
    if isinstance(chosen, MixUp):
        larger = upper and isinstance(chosen, TorchvisionMixUp)
        return MixParams(partner=partner, weight=float(np.float32(1.0 - smaller if larger else smaller)))
    region = _box(smaller if upper else 1.0 - smaller, center, height, width)
    share = region[2] * region[3] / (height * width)
    return MixParams(partner=partner, weight=float(np.float32(share)), region=region)


def _partners(chosen: MixUp | CutMix, request: Request) -> npt.NDArray[np.int64]:
    if isinstance(chosen, TorchvisionMixUp | TorchvisionCutMix):
        return np.roll(np.arange(len(request.ids), dtype=np.int64), 1)
    return np.argsort(batch_numbers(request, Stream.PARTNER, len(request.ids)), kind="stable")


def _choose(spec: Mixing, number: float) -> MixUp | CutMix:
    if not isinstance(spec, RandomChoice):
        return spec
    ends = np.cumsum(spec.p or ())
    place = int(np.searchsorted(ends, number, side="right"))
    return spec.options[min(place, len(spec.options) - 1)]


def symmetric_beta(alpha: float, first: float, second: float) -> tuple[float, bool]:
    """From two uniform numbers, b ~ Beta(alpha, alpha) as (min(b, 1 - b), whether b > 1/2).

    Exact for every alpha > 0, without rejection: t = sqrt(n (u^(-2/n) - 1)) cos(2 pi v) has Student's law of
    n degrees of freedom (Bailey, Math. Comp. 62, 1994, 779-781), and with n = 2 alpha the beta law belongs to
    (1 + t / sqrt(n + t^2)) / 2. The smaller half is computed separately, so it keeps its digits near 0.
    """
    cosine = math.cos(2.0 * math.pi * second)
    exponent = -math.log1p(-first) / alpha
    # e^700 is near the end of float64; the smaller half is below 1e-150 by then.
    grown = math.expm1(exponent) if exponent < 700.0 else math.inf
    if cosine == 0.0 or grown == 0.0:
        return 0.5, cosine > 0.0
    ratio = grown * cosine * cosine  # t^2 / n
    # (1 - 1 / sqrt(1 + 1 / ratio)) / 2, without the cancellation.
    smaller = -0.5 * math.expm1(-0.5 * math.log1p(1.0 / ratio)) if ratio > 0.0 else 0.5
    return smaller, cosine > 0.0


def _box(share: float, center: list[float], height: int, width: int) -> Box:
    """The box of a given share of the area about a centre in 0..1, clipped: (top, left, height, width)."""
    side = math.sqrt(share)
    ends = []
    for length, place in ((height, center[0]), (width, center[1])):
        half, middle = int(length * side) // 2, min(int(place * length), length - 1)
        ends.append((max(middle - half, 0), min(middle + half, length)))
    (top, bottom), (left, right) = ends
    return top, left, bottom - top, right - left
