"""`--seeds N`: the same run with N seeds, and the mean and spread of the results.

Each run has its own folder, seed-K; `seeds.json` next to them is rewritten after every run.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from fastpipe.errors import ArgumentError, DataError, FastpipeError
from fastpipe.train.config.options import Options
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.disk import why_not_written
from fastpipe.train.distributed import current_shard
from fastpipe.train.metrics.table import METRICS
from fastpipe.train.output.folder import CHECKPOINT, make_folder, replace_text
from fastpipe.train.output.progress import Display
from fastpipe.train.runner import run

RESULTS = "seeds.json"
_TIME = "time_to_train_s"


def run_seeds(
    config: TrainConfig,
    options: Options,
    *,
    explicit: Collection[str] = (),
    recipe_batch_size: int | None = None,
) -> dict[str, Any]:
    """Train with the `options.seeds` seeds from `config.seed` on. Returns what seeds.json holds.

    With resume "auto" finished seeds are only measured again, and an interrupted one continues. Raises
    ArgumentError in several processes, and for a folder of other seeds or of a single run.
    """
    assert options.seeds is not None
    seeds = list(range(config.seed, config.seed + options.seeds))
    folder = _folder(config, options, seeds)
    show, runs = Display(quiet=options.quiet), []
    for number, seed in enumerate(seeds, start=1):
        show.line(f"seed {seed} ({number} of {len(seeds)})")
        own = folder / f"seed-{seed}"
        summary = _run_one(
            replace(config, seed=seed, output_dir=str(own)),
            replace(options, seeds=None),
            explicit=explicit,
            recipe_batch_size=recipe_batch_size,
            display=Display(Console(quiet=True)) if options.quiet else None,  # the last line is of them all
        )
        repeated = (*summary["metrics"], _TIME)
        found = {name: summary[name] for name in repeated}
        runs.append({"seed": seed, "folder": own.name, "best": summary["best"], **found})
        results = {
            "seeds": seeds,
            "runs": runs,
            "statistics": {name: spread([one[name] for one in runs]) for name in repeated},
        }
        _write(folder / RESULTS, results)
    show.last(seeds_line(results))
    return results


def _write(path: Path, results: Mapping[str, Any]) -> None:
    try:
        replace_text(path, json.dumps(results, indent=2) + "\n")
    except OSError as error:
        raise DataError(
            f"{str(path)!r} could not be written: {why_not_written(error)}. Make room and continue with "
            "--resume auto: finished seeds are only measured again"
        ) from error


def _run_one(config: TrainConfig, options: Options, **fitting: Any) -> dict[str, Any]:
    """One run. A mistake leaves no empty folder behind."""
    try:
        return run(config, options=options, **fitting)
    except FastpipeError:
        with contextlib.suppress(OSError):  # there are runs in it
            Path(config.output_dir or "").parent.rmdir()
        raise


def _folder(config: TrainConfig, options: Options, seeds: list[int]) -> Path:
    if (processes := current_shard().world_size) > 1:
        raise ArgumentError(
            f"--seeds trains in one process, one run after the other. Found: {processes} processes. Start "
            "each seed separately with --seed K"
        )
    if config.output_dir is None and options.resume is not None:
        raise ArgumentError("--resume auto needs --output-dir, the folder of the runs to continue")
    folder = make_folder(config.output_dir, config.recipe, resuming=options.resume is not None)
    if (folder / CHECKPOINT).exists():
        raise ArgumentError(f"output_dir {str(folder)!r} holds a single run. Name another folder for --seeds")
    if (folder / RESULTS).exists():
        _check_same_seeds(folder, seeds, resuming=options.resume is not None)
    return folder


def _check_same_seeds(folder: Path, seeds: list[int], *, resuming: bool) -> None:
    try:
        there = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["seeds"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{str(folder / RESULTS)!r} was not written by --seeds. Name another folder"
        ) from error
    if not resuming or there != seeds:
        raise ArgumentError(
            f"output_dir {str(folder)!r} holds runs of the seeds {there}, but this command asks for {seeds}. "
            "Continue with --resume auto and the same --seed and --seeds, or name another folder"
        )


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean, sample standard deviation, minimum and maximum; None if a value is missing.

    One value has no deviation, so the key is absent.
    """
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    deviation = {"standard_deviation": statistics.stdev(numbers)} if len(numbers) > 1 else {}
    return {
        "mean": statistics.mean(numbers),
        **deviation,
        "minimum": min(numbers),
        "maximum": max(numbers),
    }


def seeds_line(results: Mapping[str, Any]) -> str:
    """The contents of seeds.json in one line."""
    found = results["statistics"]
    parts = [
        _shown(metric.title, found[metric.key], ".3f")
        for metric in METRICS
        if found.get(metric.key) is not None
    ]
    parts.append(_shown("time to train", found[_TIME], ".1f", " s"))
    return f"{len(results['runs'])} seeds (mean ± standard deviation, range): {', '.join(parts)}"


def _shown(name: str, found: Mapping[str, float], form: str, unit: str = "") -> str:
    mean, deviation, least, most = (
        format(found[key], form) for key in ("mean", "standard_deviation", "minimum", "maximum")
    )
    return f"{name} {mean} ± {deviation}{unit} ({least} to {most})"
