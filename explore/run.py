"""A run, or a published point, as the page shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastpipe.errors import ArgumentError

IMAGENET = "ImageNet-1k"


@dataclass(frozen=True, kw_only=True)
class Minutes:
    """Training time by each rule of efficiency/durations.py; None where a rule has no figure."""

    text: float | None = None
    mlperf: float | None = None
    stated: float | None = None
    """As somebody printed it, who did not state a rule."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy after epochs: epochs from 1, minutes since the start with validation, top-1 in percent."""

    epochs: Sequence[float] = ()
    minutes: Sequence[float] = ()
    quality: Sequence[float] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.epochs), len(self.minutes), len(self.quality)}
        if len(lengths) != 1:
            raise ArgumentError(f"epochs, minutes and quality must be equally long. Found: {sorted(lengths)}")
        if not all(math.isfinite(x) for x in (*self.epochs, *self.minutes, *self.quality)):
            raise ArgumentError("a curve must hold finite numbers only")

    @classmethod
    def of(cls, points: Mapping[float, tuple[float, float]]) -> Curve:
        """From epoch -> (minutes, quality)."""
        epochs = sorted(points)
        return cls(
            epochs=epochs,
            minutes=[points[epoch][0] for epoch in epochs],
            quality=[points[epoch][1] for epoch in epochs],
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """`id` is unique on a page. Runs of one `group` differ by their seed alone. quality: top-1 in percent."""

    id: str
    kind: Literal["published", "own"]
    family: str
    title: str
    group: str
    dataset: str
    hardware: str = "not stated"
    model: str = "resnet50"
    epochs: float | None = None
    resolution: int | None = None
    quality: float | None = None
    minutes: Minutes = field(default_factory=Minutes)
    printed_rule: Literal["", "text", "mlperf", "stated"] = ""
    """The rule of the minutes that somebody printed, if the others were reckoned from a log."""
    bounds: str = ""
    """What was printed that is no plain number: `<60 min`, which is no point of a curve, or `~27 min`."""
    methods: Sequence[str] = ()
    finished: bool = True
    seed: int | None = None
    images_per_s: float | None = None
    energy_kwh: float | None = None
    cost: float | None = None
    """What the run itself reckoned from its wall clock, in the currency of its --price-per-hour."""
    price_per_hour: float | None = None
    """Its --price-per-hour, where the run noted the wall clock behind `cost`."""
    curve: Curve = field(default_factory=Curve)
    extrapolation_error: float | None = None
    """Of an extrapolation from its first 10 epochs, if it has more."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys."""
    command: str = ""
    place: str = ""
    """Its folder or file."""
    pages: Sequence[str] = ()
    """Other pages about it, files in its folder."""
    notes: str = ""
    citation: str = ""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What a page shows, and a sentence for everything that it does not."""

    runs: Sequence[Run]
    problems: Sequence[str] = ()
