"""How long the runs of a study take before any of them has begun, and what that costs.

small     CPU time measured on one machine, divided by the CPUs that may be used
imagenet  published times of the recipe on eight A100s, or images by a published rate; money by a price table
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastpipe.efficiency.prices import Price, dollars, price_of
from fastpipe.efficiency.published import Point, published_points
from fastpipe.errors import ArgumentError
from fastpipe.train.studies.design import REFERENCE, Experiment, Scale, published
from fastpipe.train.studies.scale import PlannedRun

IMAGES = 1_281_167
"""Training images of ImageNet-1k."""
# CPU-ms of a training image at the settings of scale.SMALL, validation included, on a virtual EPYC, 2 cores
# (docs/study.md); those of nvidia_hparams and medium were not measured. A second core helps less than twice.
_CPU_MS: Mapping[str, float] = {"nvidia_hparams": 3.0, "mild": 2.4, "medium": 2.7, "hot": 2.9}
_CORES, _GAIN = 2.0, 0.85
_TIMED_S, _START_S = 10.0, 6.0
# A published point of each recipe whose minutes are of a known length, or that has a rate. Nothing is
# published of Medium's rate; Hot takes longer for an image, so its rate is a careful stand-in.
_POINTS: Mapping[str, str] = {
    "nvidia_hparams": "NVIDIA Hparams + Channels Last",
    "mild": "MosaicML Mild Prototype + LabelSmoothing",
    "medium": "MosaicML Hot, SAM interval 10",
    "hot": "MosaicML Hot, SAM interval 5",
    "ffcv": "FFCV authors (with TTA)",
    "timm_a1": "timm a1",
    "timm_a2": "timm a2",
    "timm_a3": "timm a3",
    "pytorch_blog": "PyTorch Blog",
}


def check_prices(prices: str | None, hardware: str | None, *, dry_run: bool) -> None:
    """Raise ArgumentError for options that a call does not read: records have no cost, only plans have."""
    for name, value in (("prices", prices), ("hardware", hardware)):
        if value is not None and not dry_run:
            raise ArgumentError(
                f"--{name} counts with --dry-run alone, which prints the cost. Found: {value!r} without it. "
                "For the cost of finished runs pass --prices to fastpipe-explore"
            )


def seconds_of(experiment: Experiment, run: PlannedRun, scale: Scale, images: int, cpus: float) -> float:
    """The estimated seconds of a run; `images` and `cpus` count at scale small only."""
    if run.timed:
        return _TIMED_S
    if scale == "small":
        spent_ms = _CPU_MS[run.arm.recipe] * images * run.epochs
        return _START_S + spent_ms / 1000.0 / max(1.0, min(cpus, _CORES) * _GAIN)
    minutes = published(experiment.point(run.arm), "minutes")
    if minutes is not None:
        return 60.0 * minutes
    epochs = int(run.arm.options.get("extrapolate_from", run.epochs))
    return epochs * _epoch_seconds(_point(run.arm.recipe))


def _point(recipe: str) -> Point:
    return next(
        point for point in published_points() if point.source == REFERENCE and point.recipe == _POINTS[recipe]
    )


def _epoch_seconds(point: Point) -> float:
    minutes, rate = published(point, "minutes"), published(point, "images_per_s")
    if minutes is not None and point.epochs is not None and point.epochs.value:
        return 60.0 * minutes / point.epochs.value
    assert rate is not None
    return IMAGES / rate


def source_of(experiment: Experiment, run: PlannedRun) -> str:
    """Where the estimate of a run at scale imagenet comes from."""
    own = experiment.point(run.arm)
    point = own if own is not None and published(own, "minutes") is not None else _point(run.arm.recipe)
    return f"{point.recipe}, {point.citation.rpartition(', ')[2]}"


def money(seconds: float, hardware: str, prices: Sequence[Price]) -> float | None:
    """Dollars, if the table knows the machine."""
    price = price_of(hardware, prices)
    return None if price is None else dollars(seconds / 60.0, price)


def plan_lines(
    experiment: Experiment,
    runs: Sequence[PlannedRun],
    *,
    scale: Scale,
    data: str,
    facts: Mapping[str, Any],
    cpus: float,
    commands: Mapping[str, str],
    hardware: str,
    prices: Sequence[Price],
) -> list[str]:
    """The plan in words: each run with its command and its time, then the sums."""
    images = int(facts.get("train") or 0)
    times = [seconds_of(experiment, run, scale, images, cpus) for run in runs]
    lines = [f"{experiment.name}: {experiment.title}, scale {scale}, on {data}: {len(runs)} runs"]
    for run, seconds in zip(runs, times, strict=True):
        lines.append(f"{run.name}: {clock(seconds)}{_because(experiment, run, scale)}")
        lines.append(f"    {commands[run.name]}")
    seeds = len({run.seed for run in runs})
    lines.append(f"in all {clock(sum(times))}, {clock(sum(times) / seeds)} for each of {seeds} seeds")
    lines.append(_basis(scale, cpus))
    if scale == "imagenet":
        spent = money(sum(times), hardware, prices)
        lines.append(
            f"cost at the price of {hardware}, if it is as fast as the published machine: ${spent:,.0f}"
            if spent is not None
            else f"no cost: the price table does not know {hardware!r}. Give --prices FILE or --hardware NAME"
        )
    return lines


def _because(experiment: Experiment, run: PlannedRun, scale: Scale) -> str:
    return f" (published: {source_of(experiment, run)})" if scale == "imagenet" and not run.timed else ""


def _basis(scale: Scale, cpus: float) -> str:
    if scale == "imagenet":
        return "times are the published ones of eight A100s; nothing of this was measured by this project"
    return f"estimated for {min(cpus, _CORES):g} quiet CPUs from CPU time measured once on 2 cores"


def clock(seconds: float) -> str:
    """`2 h 05 min`, `3 min`, `40 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
