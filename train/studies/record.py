"""The record of a study: everything found as JSON, and the same for people as Markdown."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.system.output import version
from fastpipe.train.config.keys import config_to_dict
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.studies.design import Arm, Experiment, Metric, Scale, published
from fastpipe.train.studies.results import Finished, compare, spread, values_of
from fastpipe.train.studies.savings import frontier_of

__all__ = ["KIND", "arm_stem"]

KIND = "fastpipe-study"
SCHEMA_VERSION = 1
METRICS: tuple[Metric, ...] = ("top1", "minutes", "images_per_s")
_PACKAGES = ("torch", "torchvision", "numpy", "timm", "pillow")
# What a page of runs shows; the rest of a summary repeats the configuration.
_SUMMARY = (
    *("recipe", "model", "top1", "top1_raw", "test_top1", "epochs", "steps", "images_per_s"),
    *("time_to_train_s", "wall_s", "device", "processes", "backend", "fit_to_data", "cpu_ms", "wall_ms"),
)
_EPOCH = ("epoch", "top1", "train_s", "validation_s")


def arm_stem(arm: Mapping[str, Any]) -> str:
    """The name of a record's arm without its length: what its lengths have in common."""
    return str(arm["name"]).removesuffix(f"-{arm['text_epochs']}")


def make_record(
    experiment: Experiment, runs: Sequence[Finished], *, scale: Scale, data: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Plain values. Raises ArgumentError without a finished run: an empty record would look like a result."""
    if not runs:
        raise ArgumentError(
            f"{str(folder)!r} has no finished run of {experiment.name}: there is nothing to record"
        )
    names = {run.arm for run in runs}
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment.name,
        "title": experiment.title,
        "citation": experiment.citation,
        "scale": scale,
        "created": time.strftime("%Y-%m-%d"),
        "predicted": any("cpu_ms" in run.summary for run in runs),
        "inputs": list(experiment.rates or ()),
        "data": dict(data),
        "versions": {"fastpipe": version(), "python": platform.python_version(), **_versions()},
        "machines": _machines(runs),
        "limits": experiment.limits,
        "arms": [_arm(experiment, arm, runs, folder) for arm in experiment.arms if arm.name in names],
        "comparisons": [asdict(one) for one in compare(experiment, runs)],
        "frontier": [asdict(one) for one in frontier_of(experiment, runs)],
        "extrapolation_errors": [
            run.extrapolation_error for run in runs if run.extrapolation_error is not None
        ],
        "runs": [_run(run, str(data["name"])) for run in runs],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _machines(runs: Sequence[Finished]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for run in runs:
        if run.machine and dict(run.machine) not in found:
            found.append(dict(run.machine))
    return found


def _arm(experiment: Experiment, arm: Arm, runs: Sequence[Finished], folder: Path) -> dict[str, Any]:
    point = experiment.point(arm)
    own = [run for run in runs if run.arm == arm.name]
    found = {metric: spread(values_of(runs, arm.name, metric)) for metric in METRICS}
    printed = {metric: published(point, metric) for metric in METRICS}
    return {
        "name": arm.name,
        "recipe": arm.recipe,
        "text_epochs": arm.epochs,
        "epochs": own[0].summary.get("epochs"),
        "settings": {key: value for key, value in own[0].settings.items() if key != "seed"},
        "config": _config(folder / arm.name / f"seed-{own[0].seed}" / "config.yaml"),
        "found": {
            metric: {"mean": one[0], "standard_deviation": one[1], "n": one[2]}
            for metric, one in found.items()
            if one is not None
        },
        "published": {metric: value for metric, value in printed.items() if value is not None},
        "citation": None if point is None else point.citation,
    }


def _config(path: Path) -> dict[str, Any]:
    """Without the places of the run, which mean nothing elsewhere; empty for a run that trained nothing."""
    if not path.exists():
        return {}
    values = config_to_dict(load_recipe(str(path)))
    return {key: value for key, value in values.items() if key not in ("data", "output_dir", "seed")}


def _run(run: Finished, data: str) -> dict[str, Any]:
    summary = {key: _finite(run.summary[key]) for key in _SUMMARY if key in run.summary}
    return {
        "arm": run.arm,
        "seed": run.seed,
        "taken_from": run.taken_from,
        "machine": dict(run.machine),
        "values": dict(run.values),
        "minutes_mlperf": run.minutes_mlperf,
        "extrapolation_error": run.extrapolation_error,
        "summary": {**summary, "data": data},  # not the place where this machine has it
        "epochs": [{key: _finite(epoch.get(key)) for key in _EPOCH} for epoch in run.epochs],
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN: a run that diverged has no accuracy."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
