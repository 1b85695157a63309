"""What an experiment is: arms that are trained or loaded, what is compared, and the published rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fastpipe.efficiency.published import Point, published_points
from fastpipe.errors import ArgumentError

Metric = Literal["top1", "minutes", "images_per_s"]
Scale = Literal["imagenet", "small"]
SCALES: tuple[Scale, ...] = ("imagenet", "small")
REFERENCE = "reference text"


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Work of a loader that is timed in place of a training where there is no GPU.

    cores: physical cores of the published machine, relative to which rates are predicted. backend: `pillow`
    is torchvision's way in a worker, with `depth` operations of its RandAugment; `turbo` is ours.
    """

    size: int
    backend: Literal["pillow", "turbo"] = "pillow"
    depth: int = 0
    cores: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1 or self.depth < 0 or self.cores <= 0.0:
            raise ArgumentError(
                f"size must be at least 1, depth at least 0, cores above 0. Found: {self!r}. Correct the arm"
            )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of a table: a recipe with changed keys, for a number of epochs.

    epochs: the text's. small: those of scale `small`; None: the arm is not part of it. options: dotted keys
    of fastpipe-train. row: the published recipe; None: nothing is published for this arm alone. hardware:
    where the row was measured, if the table has one row for each of several machines.
    """

    name: str
    recipe: str
    epochs: int
    small: int | None
    options: Mapping[str, str] = field(default_factory=dict)
    row: str | None = None
    hardware: str | None = None
    loading: Loading | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or (self.small is not None and self.small < 1):
            raise ArgumentError(f"epochs and small must be at least 1. Found: {self.epochs}, {self.small}")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """first - second in each of the metrics: names of arms."""

    first: str
    second: str
    metrics: Sequence[Metric] = ("top1",)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table, or the figure. seeds: the text's replicates. limits: what scale `small` cannot show."""

    name: str
    title: str
    citation: str
    arms: Sequence[Arm]
    comparisons: Sequence[Comparison]
    limits: str
    seeds: int = 3
    rates: tuple[str, str] | None = None
    """Of a table of rates: the arm with the GPUs' published rate, and the one that sets the CPUs' worth."""
    baseline: str | None = None
    """Of the figure: the recipe against whose curve time is saved."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ArgumentError(f"{self.name}: names of arms must differ. Found: {names}")
        asked = {name for one in self.comparisons for name in (one.first, one.second)}
        asked |= set(self.rates or ())
        if unknown := sorted(asked - set(names)):
            raise ArgumentError(f"{self.name}: comparisons must name its arms {names}. Found: {unknown}")
        for arm in self.arms:
            self.point(arm)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def point(self, arm: Arm) -> Point | None:
        """The published row of an arm; ArgumentError unless there is exactly one."""
        if arm.row is None:
            return None
        found = [point for point in published_points() if self._is_row(point, arm)]
        if len(found) != 1:
            raise ArgumentError(
                f"{self.name}: {arm.name} must name one published row of {self.citation}. "
                f"Found: {len(found)} of {arm.row!r}"
            )
        return found[0]

    def _is_row(self, point: Point, arm: Arm) -> bool:
        return (
            point.source == REFERENCE
            and self.citation in point.citation
            and point.recipe == arm.row
            and (point.epochs is None or point.epochs.value == arm.epochs)
            and (arm.hardware is None or point.hardware.startswith(arm.hardware))
            and (self.rates is None or _depth(point) in (None, arm.loading and arm.loading.depth))
        )


def _depth(point: Point) -> int | None:
    """The RandAugment depth that tells rows of Table 2 apart; it is in their notes."""
    words = point.notes.split(";")[0].rpartition("depth ")
    return int(words[2]) if words[1] else None


def published(point: Point | None, metric: Metric) -> float | None:
    """A printed figure: top1 in percent, minutes, or images/s; None where nothing was printed."""
    if point is None:
        return None
    figure = {"top1": point.top1, "minutes": point.minutes, "images_per_s": point.throughput_img_s}[metric]
    return None if figure is None else figure.value
