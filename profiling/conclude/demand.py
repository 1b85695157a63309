"""The images/s that training demands if there is no GPU to measure: a number, or a published rate."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import resources

from fastpipe.errors import ArgumentError
from fastpipe.profiling.measure.timing import Spread, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published training rate of a whole machine; `source` and `table` say where it was published."""

    name: str
    images_per_s: float
    gpus: int
    gpu: str
    recipe: str
    randaugment_depth: int
    resolution: int
    system: str
    table: str
    source: str


def published() -> tuple[Published, ...]:
    """All published rates that come with the package."""
    text = resources.files("fastpipe.profiling").joinpath("published_rates.json").read_text(encoding="utf-8")
    found = json.loads(text)
    return tuple(Published(source=found["source"], **row) for row in found["rates"])


def known_gpus() -> list[str]:
    """The GPUs with published rates."""
    return sorted({row.gpu for row in published()})


def rate_of(target: str) -> tuple[float, str]:
    """The images/s of `target`, a number or the name of a published rate, and their source."""
    for row in published():
        if row.name == target:
            return (
                row.images_per_s,
                f"published: {row.system}, recipe {row.recipe} ({row.source}, {row.table})",
            )
    names = ", ".join(row.name for row in published())
    try:
        rate = float(target)
    except ValueError:
        rate = math.nan
    if not (0.0 < rate < 1e9):
        raise ArgumentError(
            f"target_images_per_s must be a rate above 0, or a published one: {names}. Found: {target!r}"
        )
    return rate, "given"


def target_timing(rate: float) -> Timing:
    """A demand of `rate` images/s as a stage: no CPU, no repeats, no spread."""
    point, nothing = Spread(median=rate, low=rate, high=rate), Spread(median=0.0, low=0.0, high=0.0)
    return Timing(images_per_s=point, cpu_ms=nothing, repeats=0, images=0)
