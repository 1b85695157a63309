"""A profile as plain values, as --json writes it. docs/profile-schema.md describes the keys."""

from __future__ import annotations

import time
from typing import Any

from fastpipe.profiling.conclude.verdict import Forecast
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import Spread
from fastpipe.profiling.names import words
from fastpipe.profiling.report.result import Profile
from fastpipe.profiling.report.terminal_parts import sections

__all__ = ["to_dict"]

SCHEMA_VERSION = 2


SCHEMA_MINOR = 1
"""The first is raised when a field changes its meaning or goes, the second when fields are added."""


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
            "bottleneck": words(verdict.bottleneck),
            "slowest_loader_stage": words(verdict.slowest_loader_stage),
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
        "stage": words(found.stage),
    }
