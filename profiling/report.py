"""A profile for people (a rich table and sentences) and for programs (JSON of a versioned schema)."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.table import Table

from fastpipe.profiling.report_parts import print_parts, sections, values_of
from fastpipe.profiling.result import Profile
from fastpipe.profiling.stages import StageResult
from fastpipe.profiling.terminal import print_table
from fastpipe.profiling.timing import Spread
from fastpipe.profiling.verdict import Forecast

__all__ = ["SCHEMA_MINOR", "SCHEMA_VERSION", "render", "to_dict", "values_of"]

SCHEMA_VERSION, SCHEMA_MINOR = 2, 1
"""The first is raised when a field changes its meaning or goes, the second when fields are added."""


_ABOVE_PLAIN = "device stage + "  # in the table these rows follow the plain one, and say so by a plus


def to_dict(profile: Profile) -> dict[str, Any]:
    """The profile as plain values, as `--json` writes it. Rates in images/s, costs in CPU-ms per image."""
    workload, verdict = profile.workload, profile.verdict
    return {
        "schema_version": SCHEMA_VERSION,
        "schema_minor": SCHEMA_MINOR,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": profile.host,
        "data": {"name": workload.data, **profile.data},
        "workload": {
            "recipe": workload.recipe,
            "model": workload.model,
            "models": workload.models,
            "resolution": workload.resolution,
            "model_side": workload.side,
            "augment": [repr(spec) for spec in workload.augment],
            "batch_size": workload.batch_size,
            "workers": workload.workers,
            "channels_last": workload.channels_last,
            "seconds_per_stage": workload.seconds,
            "quick": workload.quick,
            "backend": workload.backend,
            "target_images_per_s": None if workload.target is None else workload.target[0],
            "timed_batch_sizes": profile.batch_sizes,
        },
        "stages": [_stage(stage) for stage in profile.stages],
        "together": [_stage(stage) for stage in profile.together],
        "verdict": {
            "bottleneck": verdict.bottleneck,
            "slowest_loader_stage": verdict.slowest_loader_stage,
            "model_images_per_s": verdict.model_images_per_s,
            "cpus_needed": verdict.cpus_needed,
            "predicted_loader": _forecast(verdict.loader),
            "predicted_together": _forecast(verdict.together),
            "next": None if verdict.following is None else _forecast(verdict.following),
            "sentences": list(verdict.sentences),
            "details": list(verdict.details),
            "text": " ".join(verdict.sentences),
        },
        **sections(profile),
        "notes": list(profile.notes),
    }


def _stage(stage: StageResult) -> dict[str, Any]:
    timing = stage.timing
    return {
        "name": stage.name,
        "lane": stage.lane,
        "what": stage.what,
        "images_per_s": _spread(timing.images_per_s),
        "images_per_s_interval": _spread(timing.interval),
        "cpu_ms_per_image": _spread(timing.cpu_ms),
        "repeats": timing.repeats,
        "images": timing.images,
    }


def _spread(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "low": spread.low, "high": spread.high}


def _forecast(found: Forecast) -> dict[str, Any]:
    return {
        "images_per_s": found.images_per_s,
        "low": found.low,
        "high": found.high,
        "bound": found.bound,
        "stage": found.stage,
    }


def render(profile: Profile, console: Console) -> None:
    """Print head, table, verdict and notes."""
    for line in _head(profile):
        console.print(line, markup=False, highlight=False)
    print_table(console, _table(profile))
    for sentence in profile.verdict.sentences:
        console.print(sentence, style="bold", markup=False, highlight=False)
    for line in profile.verdict.details:
        console.print(line, markup=False, highlight=False)
    print_parts(profile, console)
    for note in profile.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)


def _head(profile: Profile) -> list[str]:
    host, data, workload = profile.host, profile.data, profile.workload
    source = f"recipe {workload.recipe}" if workload.recipe else "no recipe"
    layout = ", channels_last" if workload.channels_last else ""
    broken = f", {data['broken']} broken" if data["broken"] else ""
    return [
        f"host: {host['cpu']}, {host['cpus_usable']:g} usable CPUs, "
        f"{host['gpu'] or 'no GPU'}; torch {host['torch']}, torchvision {host['torchvision']}, "
        f"Pillow {host['pillow']} ({host['jpeg']})",
        f"data: {workload.data}: {data['sampled']} of {data['files']:,} files sampled{broken}, "
        f"mean {data['mean_bytes'] / 1000:,.1f} kB, median {data['median_pixels'] / 1e6:.3g} megapixels",
        f"work: {source}: {workload.model} of {workload.models} at {workload.resolution} pixels{layout}, "
        f"batch {workload.batch_size}, {workload.workers} workers, backend {workload.backend}",
    ]


def _table(profile: Profile) -> Table:
    table = Table(title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in ("images/s", "95 % interval", "CPU-ms/image", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what")
    for stage in profile.stages:
        table.add_row(*_row(stage))
    table.add_section()
    for stage in profile.explored.details:
        table.add_row(*_row(stage))
    for name, why in profile.explored.unmeasured:
        table.add_row(name, "-", "-", "-", "", f"not measured: {why}")
    table.add_section()
    for stage in profile.together:
        table.add_row(*_row(stage))
    return table


def _row(stage: StageResult) -> tuple[str, ...]:
    rate, cpu, interval = stage.timing.images_per_s, stage.timing.cpu_ms, stage.timing.interval
    return (
        stage.name.replace(_ABOVE_PLAIN, "  + "),
        _number(rate.median),
        f"{_number(interval.low)}-{_number(interval.high)}",
        f"{cpu.median:.3g}",
        str(stage.timing.repeats),
        stage.what,
    )


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
