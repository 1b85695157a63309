"""Run folders of fastpipe-train as runs of the page."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastpipe.efficiency.durations import extrapolation_error, mlperf_time, time_to_train
from fastpipe.explore.events import EVENTS, read_events
from fastpipe.explore.families import title_of
from fastpipe.explore.limits import SETTINGS
from fastpipe.explore.run import Curve, Minutes, Run
from fastpipe.explore.run_files import (
    CONFIG,
    ENVIRONMENT,
    METRICS,
    PAGES,
    SUMMARY,
    epochs_in,
    object_in,
    settings_in,
)
from fastpipe.explore.settings import SEED, command_of, flat, identity_of, methods_of
from fastpipe.explore.wandb_folders import is_wandb, read_wandb

_MARKS = (METRICS, SUMMARY)
_FROM_FIRST = 10


def run_folders(root: Path) -> Iterator[Path]:
    """`root` and the folders below it that hold a run, in order; it does not look inside a run folder."""
    for folder, below, files in os.walk(root):
        if any(name in _MARKS or name.startswith(EVENTS) or is_wandb(name) for name in files):
            below.clear()
            yield Path(folder)
        else:
            below[:] = sorted(name for name in below if not name.startswith("."))


def read_run(folder: Path, identity: str) -> tuple[Run | None, list[str]]:
    """The run in `folder`, and what is wrong with it; None if it has neither an epoch nor a summary."""
    if not any((folder / name).exists() for name in _MARKS):
        theirs = read_events if any(folder.glob(f"{EVENTS}*")) else read_wandb
        return theirs(folder, identity)
    problems: list[str] = []
    config = flat(settings_in(folder, problems))
    summary = object_in(folder / SUMMARY, problems)
    epochs = epochs_in(folder, problems)
    found = [f"{identity}: {problem}" for problem in problems]
    if not epochs and not summary:
        return None, [*found, f"{identity}: nothing to show yet: no finished epoch"]
    return run_of(folder, identity, config, summary, epochs), found


def number(value: Any) -> float | None:
    """A finite number, or None."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None


def run_of(
    folder: Path,
    identity: str,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    epochs: list[Mapping[str, Any]],
) -> Run:
    """The run of dotted keys, summary.json, and the epochs of metrics.jsonl in their order."""
    train = [number(epoch.get("train_s")) or 0.0 for epoch in epochs]
    validation = [number(epoch.get("validation_s")) or 0.0 for epoch in epochs]
    recipe = str(summary.get("recipe") or config.get("recipe") or "unknown recipe")
    whole = _timed(epochs)
    curve, lost = _curve(epochs[:whole], train, validation)
    quality = number(summary.get("top1"))
    if quality is None and not summary:
        quality = curve.quality[-1] / 100 if curve.quality else None
    complete = whole == len(epochs)
    seconds = number(summary.get("time_to_train_s")) or (time_to_train(train) if complete else 0.0)
    measured = (mlperf_time(train, validation) or 0.0) if complete else 0.0
    data = str(summary.get("data") or config.get("data") or "unknown data")
    resolution = number(config.get("train_resolution"))
    return Run(
        id=identity,
        kind="own",
        family=recipe,
        title=title_of(recipe),
        group=identity_of({**config, "data": data}) if config else identity,
        dataset=data,
        hardware=hardware_of(summary, object_in(folder / ENVIRONMENT, [], SETTINGS)),
        model=str(summary.get("model") or config.get("model") or "unknown model"),
        epochs=number(summary.get("epochs")) or len(epochs),
        resolution=int(resolution) if resolution else None,
        quality=None if quality is None else 100 * quality,
        minutes=Minutes(text=seconds / 60 or None, mlperf=measured / 60 or None),
        methods=methods_of(config),
        finished=bool(summary),
        seed=config.get(SEED) if isinstance(config.get(SEED), int) else None,
        images_per_s=number(summary.get("images_per_s")),
        energy_kwh=number(summary.get("energy_kwh")),
        cost=number(summary.get("cost")),
        price_per_hour=_price(summary),
        curve=curve,
        extrapolation_error=_error(train, config, bool(summary)),
        config=config,
        command=command_of(config, str(folder / CONFIG)) if config else "",
        place=str(folder),
        pages=[name for name in PAGES if (folder / name).is_file()],
        notes=_notes(summary, lost),
    )


def _timed(epochs: list[Mapping[str, Any]]) -> int:
    """How many epochs from the first on have their time: behind a gap no sum of minutes is known."""
    for place, epoch in enumerate(epochs):
        if epoch["epoch"] != place or number(epoch.get("train_s")) is None:
            return place
    return len(epochs)


def hardware_of(summary: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Accelerators and processor. Older runs name the kind of device alone."""
    given = environment.get("processes", summary.get("processes"))
    count = given if isinstance(given, int) else 1
    processor, accelerator = environment.get("cpu"), environment.get("gpu")
    if not processor:
        device = summary.get("device")
        return f"{count}x {device}" if device and count > 1 else str(device or "not stated")
    if accelerator:
        return f"{count}x {accelerator}, {processor}"
    cpus = number(environment.get("cpus_usable"))
    processes = f", {count} processes" if count > 1 else ""
    return str(processor) + ("" if cpus is None else f", {cpus:g} CPUs") + processes


def _curve(epochs: list[Mapping[str, Any]], train: list[float], validation: list[float]) -> tuple[Curve, int]:
    """The curve, and how many epochs have no finite accuracy and are not on it."""
    points: dict[float, tuple[float, float]] = {}
    spent = 0.0
    for epoch, train_s, validation_s in zip(epochs, train, validation, strict=False):
        spent += train_s + validation_s
        top1 = number(epoch.get("top1"))
        if top1 is not None:
            points[epoch["epoch"] + 1] = (spent / 60, 100 * top1)
    return Curve.of(points), len(epochs) - len(points)


def _error(train: list[float], config: Mapping[str, Any], finished: bool) -> float | None:
    if not finished or len(train) <= _FROM_FIRST or config.get("epochs") != len(train) or min(train) <= 0:
        return None
    return extrapolation_error(train, _FROM_FIRST)


def _price(summary: Mapping[str, Any]) -> float | None:
    cost, wall_s = number(summary.get("cost")), number(summary.get("wall_s"))
    return 3600.0 * cost / wall_s if cost and wall_s else None


def _notes(summary: Mapping[str, Any], lost: int) -> str:
    parts = [str(summary["note"])] if summary.get("note") else []
    if (test := number(summary.get("test_top1"))) is not None:
        parts.append(f"test top-1 {100 * test:.2f} %")
    if lost:
        parts.append(f"{lost} epochs without a finite accuracy are not on the curve")
    return "; ".join(parts)
