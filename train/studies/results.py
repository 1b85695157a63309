"""From finished runs to what a study found: mean and spread of each arm, and each comparison's verdict."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fastpipe.efficiency.durations import extrapolation_error, mlperf_time
from fastpipe.efficiency.paired import Paired, Verdict, paired, verdict
from fastpipe.train.output.folder import METRICS
from fastpipe.train.studies.design import Arm, Comparison, Experiment, Metric, published
from fastpipe.train.studies.folder import COMMAND, SUMMARY, TIMED, finished, read_object
from fastpipe.train.studies.loading import predicted_rates
from fastpipe.train.studies.scale import PlannedRun
from fastpipe.train.studies.twins import TAKEN_FROM

_FROM_FIRST = 10  # epochs that the text extrapolates from


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished run. values: top1 in percent (test split, if there is one), minutes, images_per_s.

    taken_from: the run of another study that this one is a copy of.
    """

    arm: str
    seed: int
    values: Mapping[Metric, float]
    summary: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]] = ()
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    taken_from: str | None = None
    minutes_mlperf: float | None = None
    extrapolation_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A comparison in one metric: what was found, what was published, and what that says.

    "by construction": both arms do the same work on machines with different cores, and their rates are
    predicted, so the order follows from the numbers of cores whatever was timed.
    """

    first: str
    second: str
    metric: Metric
    found: Paired | None
    published: float
    verdict: Verdict | Literal["by construction"]


def collect(folder: Path, experiment: Experiment, runs: Sequence[PlannedRun]) -> list[Finished]:
    """The finished ones of `runs`. A damaged or half-written run is left out, as unfinished."""
    there = [run for run in runs if finished(folder, run)]
    if experiment.rates is None or not any(run.timed for run in there):
        return [_trained(folder / run.name, run) for run in there]
    return _timed(folder, experiment, there)


def _trained(folder: Path, run: PlannedRun) -> Finished:
    summary = read_object(folder / SUMMARY) or {}
    epochs = _epochs(folder / METRICS)
    train = [float(epoch["train_s"]) for epoch in epochs]
    validation = [float(epoch["validation_s"]) for epoch in epochs]
    known: dict[Metric, Any] = {
        "top1": _percent(summary.get("test_top1", summary.get("top1"))),
        "minutes": _minutes(summary.get("time_to_train_s")),
        "images_per_s": summary.get("images_per_s"),
    }
    longer = summary.get("extrapolation")
    if isinstance(longer, dict):
        # The text takes the accuracy of these from elsewhere; ten epochs of 600 have none.
        known |= {"top1": None, "minutes": _minutes(longer.get("extrapolated_time_to_train_s"))}
    whole = len(train) == summary.get("epochs")
    seconds = mlperf_time(train, validation) if whole else None
    return Finished(
        arm=run.arm.name,
        seed=run.seed,
        values={metric: float(value) for metric, value in known.items() if _finite(value)},
        summary=summary,
        epochs=epochs,
        minutes_mlperf=_minutes(seconds),
        extrapolation_error=extrapolation_error(train, _FROM_FIRST)
        if whole and len(train) > _FROM_FIRST
        else None,
        **_noted(folder),
    )


def _timed(folder: Path, experiment: Experiment, there: Sequence[PlannedRun]) -> list[Finished]:
    """Loaders that were timed: their rates are predicted for the seeds that have all arms of the table."""
    spent: dict[int, dict[str, Mapping[str, Any]]] = {}
    for run in there:
        spent.setdefault(run.seed, {})[run.arm.name] = read_object(folder / run.name / TIMED) or {}
    found = []
    for run in there:
        of_seed = {name: float(values["cpu_ms"]) for name, values in spent[run.seed].items()}
        complete = len(of_seed) == len(experiment.arms)
        rates = predicted_rates(experiment, of_seed) if complete else {}
        values: dict[Metric, float] = {"images_per_s": rates[run.arm.name]} if complete else {}
        summary = spent[run.seed][run.arm.name]
        noted = _noted(folder / run.name)
        found.append(Finished(arm=run.arm.name, seed=run.seed, values=values, summary=summary, **noted))
    return found


def _noted(folder: Path) -> dict[str, Any]:
    command = read_object(folder / COMMAND) or {}
    found = {key: command.get(key, {}) for key in ("machine", "settings")}
    return {**found, "taken_from": command.get(TAKEN_FROM)}


def _epochs(path: Path) -> list[dict[str, Any]]:
    """The epochs' lines of metrics.jsonl, in order; a torn line is none."""
    found: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        whole = isinstance(entry, dict) and {"train_s", "validation_s"} <= set(entry)
        if whole and entry.get("kind") == "epoch":
            found[entry["epoch"]] = entry
    return [found[epoch] for epoch in sorted(found)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _percent(share: Any) -> float | None:
    return 100.0 * share if _finite(share) else None


def _minutes(seconds: Any) -> float | None:
    return seconds / 60.0 if _finite(seconds) else None


def values_of(runs: Sequence[Finished], arm: str, metric: Metric) -> dict[int, float]:
    """Seed -> value, in the order of the seeds."""
    return {
        run.seed: run.values[metric]
        for run in sorted(runs, key=lambda run: run.seed)
        if run.arm == arm and metric in run.values
    }


def spread(values: Mapping[int, float]) -> tuple[float, float | None, int] | None:
    """Mean, sample standard deviation (None for one value) and n; None without values."""
    numbers = list(values.values())
    if not numbers:
        return None
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return statistics.fmean(numbers), deviation, len(numbers)


def compare(experiment: Experiment, runs: Sequence[Finished]) -> list[Compared]:
    """Every comparison in every metric in which both arms have a published figure."""
    found = [
        _compared(experiment, one, metric, runs) for one in experiment.comparisons for metric in one.metrics
    ]
    return [one for one in found if one is not None]


def _compared(
    experiment: Experiment, one: Comparison, metric: Metric, runs: Sequence[Finished]
) -> Compared | None:
    arms = [experiment.arm(name) for name in (one.first, one.second)]
    printed = [_printed(experiment, arm, metric) for arm in arms]
    if printed[0] is None or printed[1] is None:
        return None
    # Rounded, since 76.33 - 75.91 is not 0.42 in floats, and 0 must be 0.
    difference = round(printed[0] - printed[1], 6)
    first, second = (values_of(runs, arm.name, metric) for arm in arms)
    common = [seed for seed in first if seed in second]
    pair = paired([first[s] for s in common], [second[s] for s in common]) if common else None
    said: Verdict | Literal["by construction"] = "not shown" if pair is None else verdict(pair, difference)
    if _same_work(arms) and any("cpu_ms" in run.summary for run in runs):
        said = "by construction"
    return Compared(
        first=one.first,
        second=one.second,
        metric=metric,
        found=pair,
        published=difference,
        verdict=said,
    )


def _same_work(arms: Sequence[Arm]) -> bool:
    """Whether the loaders of two arms differ in the cores of their machines alone."""
    first, second = (None if arm.loading is None else replace(arm.loading, cores=1.0) for arm in arms)
    return first is not None and first == second


def _printed(experiment: Experiment, arm: Arm, metric: Metric) -> float | None:
    return published(experiment.point(arm), metric)
