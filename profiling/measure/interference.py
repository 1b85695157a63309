"""The model step while other processes decode: how a loader that takes more of the CPUs slows it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fastpipe.decode import decode_rgb
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.timing import Spread, measure

LOADS = (0.0, 0.4, 0.8, 1.0)
_PERIOD_S = 0.02
_KNEE = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """images/s of the model step while decoding takes `load`, 0..1, of the CPUs."""

    load: float
    images_per_s: Spread


def interference(inputs: Inputs, unit: Callable[[], int], cpus: float, seconds: float) -> tuple[Point, ...]:
    """Time the step at each of the loads, for `seconds` each."""
    points = []
    files = [sample.data for sample in inputs.samples]
    for load in LOADS:
        with busy(files, load, max(1, round(cpus))):
            timing = measure(unit, seconds)
        points.append(Point(load=load, images_per_s=timing.images_per_s))
    return tuple(points)


def knee(points: Sequence[Point]) -> float | None:
    """The lowest load at which the step takes 10 % longer than undisturbed, None if it never does."""
    alone = points[0].images_per_s.median
    slowed = [point.load for point in points[1:] if alone > _KNEE * point.images_per_s.median]
    return slowed[0] if slowed else None


@contextmanager
def busy(files: Sequence[bytes], load: float, processes: int) -> Iterator[None]:
    """Processes that decode for a share `load` of the time, until the block ends."""
    decoders = [
        multiprocessing.Process(target=_decode, args=(list(files), load), daemon=True)
        for _ in range(processes if load > 0.0 else 0)
    ]
    for decoder in decoders:
        decoder.start()
    try:
        yield
    finally:
        for decoder in decoders:
            decoder.terminate()
        for decoder in decoders:
            decoder.join(10)


def _decode(files: list[bytes], load: float) -> None:
    place = 0
    while True:
        end_s = time.perf_counter() + load * _PERIOD_S
        while time.perf_counter() < end_s:
            decode_rgb(files[place % len(files)], "")
            place += 1
        time.sleep((1.0 - load) * _PERIOD_S)
