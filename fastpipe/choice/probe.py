"""Measures backends on the user's own data: once per machine, data and plan, a few seconds at most.

The measure is the CPU time of this process per image, from decode to packed batch, with all work in this
process: on a shared machine, wall time depends on other load. Nothing is drawn from a global generator.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.features

from fastpipe.backends.base import Backend, BatchSource, Job, Numerics
from fastpipe.backends.registry import load
from fastpipe.batch import Drawer, RequestStream, WorkerOptions
from fastpipe.batch.locate import leaves
from fastpipe.batch.mend import Policy
from fastpipe.batch.worker import own_generators
from fastpipe.errors import DataError
from fastpipe.installed import VERSION
from fastpipe.system.files import file_lock, make_dir, replace_file, user_cache_dir
from fastpipe.system.machine import processor_name
from fastpipe.types import Machine, Plan

__all__ = ["Trial"]

_log = logging.getLogger("fastpipe")

SECONDS = 2.5  # the time box of a whole probe, warm-up included
PROBE_IMAGES = 2048  # an epoch of fewer images ends before a probe would
_BATCH, _BATCHES = 16, 2  # images in a slice: small enough to alternate often
_ROUNDS = 2  # at least this many slices of each, however long they take
# The distributions that decode, resize and run the kernels. DALI has one for each CUDA version.
_PACKAGES = re.compile(
    r"(torch|torchvision|pillow|pillow-simd|numpy|numba|numba-cuda|llvmlite|ffcv|kornia|tbb|opencv-python.*"
    r"|nvidia-(dali|nvimgcodec|nvjpeg|nvtiff).*)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rate of each backend; `failed` says why one has none. source: when and where it was measured."""

    images_per_cpu_second: Mapping[str, float]
    failed: Mapping[str, str]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The workload to measure: a loader's own data and crop sizes, by epoch and batch."""

    dataset: Any
    resolution: Callable[[int, int], int | None]


def rates_of(
    names: Sequence[str], trial: Trial, *, plan: Plan, machine: Machine, numerics: Numerics
) -> Rates | str:
    """Measure these backends, unless that would take longer than the epoch; else the reason why not."""
    num = len(trial.dataset)
    if num < PROBE_IMAGES:
        return f"an epoch of {num} images is over before a measurement would be"
    roots = sorted({str(leaf.root) for leaf in leaves(trial.dataset)})
    job = Job(
        dataset=trial.dataset,
        plan=plan,
        workers=WorkerOptions(),
        reseed=False,
        policy=Policy(on_error="skip"),
        numerics=numerics,
    )
    key = probe_key(
        machine=machine, data=[roots, num], plan=plan.decode, numerics=numerics, names=sorted(names)
    )
    backends = {name: load(name) for name in names}
    return cached_rates(key, names, lambda: measure(backends, job, resolution=trial.resolution))


def probe_key(**parts: Any) -> str:
    """A hash of what a measurement depends on: the parts given, the processor and the packages' versions."""
    text = json.dumps([parts, _versions(), processor_name()], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@lru_cache(maxsize=1)
def _versions() -> tuple[str, ...]:
    """The versions of every installed distribution that affects a backend's rate, and of the JPEG library."""
    found = {
        f"{name} {distribution.version}"
        for distribution in importlib.metadata.distributions()
        if _PACKAGES.match(name := str(distribution.name).lower().replace("_", "-"))
    }
    jpeg = PIL.features.version_feature("libjpeg_turbo") or PIL.features.version("jpg")
    return tuple(
        sorted({*found, f"fastpipe {VERSION}", f"python {platform.python_version()}", f"libjpeg {jpeg}"})
    )


def cached_rates(key: str, names: Sequence[str], run: Callable[[], Rates]) -> Rates | str:
    """The stored result for this key, else what `run` measures, which is stored; or why there is none.

    Processes that arrive together wait for the first and read its result, so all ranks decide alike.
    """
    path = user_cache_dir() / "choices" / f"{key}.json"
    if (found := _read(path, names)) is not None:
        return found
    if os.environ.get("FASTPIPE_NO_PROBE"):
        return "FASTPIPE_NO_PROBE is set"
    try:
        make_dir(path.parent)
        with file_lock(path.with_suffix(".lock")):
            if (found := _read(path, names)) is not None:
                return found
            measured = run()
            if not measured.images_per_cpu_second:
                return f"no backend completed the probe: {dict(measured.failed)}"
            entry = {
                "images_per_cpu_second": dict(measured.images_per_cpu_second),
                "failed": dict(measured.failed),
                "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            replace_file(str(path), lambda file: _write(file, entry))
    except (OSError, DataError) as error:
        return f"the cache directory cannot be written ({error}), and ranks must decide alike"
    return _read(path, names) or measured


def _write(file: Any, entry: dict[str, Any]) -> None:
    file.write(json.dumps(entry, indent=1).encode())


def _read(path: Path, names: Sequence[str]) -> Rates | None:
    """The stored rates of these names; None for anything but a whole, well-formed result."""
    try:
        if path.stat().st_size > 1 << 16:
            return None
        entry = json.loads(path.read_text(encoding="utf-8"))
        rates = {str(name): float(rate) for name, rate in entry["images_per_cpu_second"].items()}
        failed = {str(name): str(why) for name, why in entry["failed"].items()}
        measured = str(entry["measured"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    rates = {name: rate for name, rate in rates.items() if name in names}
    if not rates or {*rates, *failed} < set(names):
        return None
    return Rates(images_per_cpu_second=rates, failed=failed, source=f"measured {measured}, kept in {path}")


def measure(
    backends: Mapping[str, Backend],
    job: Job,
    *,
    resolution: Callable[[int, int], int | None],
    seconds: float | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Rates:
    """Serve the same samples by each backend in turns until the time is up (SECONDS); the median of each.

    The job's policy should be "skip": a broken file is no reason not to measure.
    """
    deadline = time.monotonic() + (SECONDS if seconds is None else seconds)
    sources: dict[str, BatchSource] = {}
    failed: dict[str, str] = {}
    rates: dict[str, list[float]] = {name: [] for name in backends}
    slices = _slices(len(job.dataset))
    with own_generators():
        try:
            done = -1  # the first round warms up: imports, compilation, page cache
            while done < _ROUNDS or time.monotonic() < deadline:
                ids = next(slices)
                for name in [name for name in backends if name not in failed]:
                    try:
                        if name not in sources:
                            sources[name] = backends[name].build(job)
                        rate = _rate(sources[name], ids, resolution, clock)
                    except Exception as error:  # whatever error a backend raises here, the loader continues
                        failed[name] = f"failed in the probe: {type(error).__name__}: {error}"
                        _log.warning("backend %s %s", name, failed[name])
                        continue
                    if done >= 0:
                        rates[name].append(rate)
                done += 1
        finally:
            for source in sources.values():
                source.close()
    medians = {
        name: statistics.median(found) for name, found in rates.items() if found and name not in failed
    }
    return Rates(images_per_cpu_second=medians, failed=failed, source="measured now")


def _slices(num: int) -> Iterator[list[list[int]]]:
    """Endless slices of ids, spread over the data: each slice has its own pages."""
    size = _BATCH * _BATCHES
    step = max(1, num // size)
    offset = 0
    while True:
        ids = (np.arange(size) * step + offset) % num
        yield ids.reshape(_BATCHES, _BATCH).tolist()
        offset += 1


def _rate(
    source: BatchSource,
    batches: list[list[int]],
    resolution: Callable[[int, int], int | None],
    clock: Callable[[], float],
) -> float:
    stream = RequestStream(Drawer(batches, seed=0, epoch=0, resolution=resolution))
    start, images = clock(), 0
    for batch in source.start(stream, again=True):
        images += len(batch.images)
    return images / max(clock() - start, 1e-9)
