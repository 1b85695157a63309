"""Figures that a mean rate hides: first batch, gap between epochs, waits for a batch, memory of workers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds and bytes. waits: from the request for a batch to its arrival, for an idle consumer."""

    first_batch_ms: float
    epoch_gap_ms: float
    wait_p50_ms: float
    wait_p99_ms: float
    waits: int
    worker_bytes: int
    workers_seen: int


def time_latency(loader: Any, seconds: float) -> Latency:
    """Epochs of a fresh loader with persistent workers, for about `seconds` and at least two epochs."""
    end_s = time.perf_counter() + seconds
    waits: list[float] = []
    firsts: list[float] = []
    known = {child.pid for child in psutil.Process().children(recursive=True)}
    memory, seen = 0, 0
    while len(firsts) < 2 or time.perf_counter() < end_s:
        times = _waits(loader)
        firsts.append(times[0])
        waits += times[1:]
        if not seen:
            memory, seen = _memory(known)
    p50, p99 = np.quantile(waits or firsts, (0.5, 0.99)).tolist()
    return Latency(
        first_batch_ms=1000 * firsts[0],
        epoch_gap_ms=1000 * float(np.median(firsts[1:])),
        wait_p50_ms=1000 * p50,
        wait_p99_ms=1000 * p99,
        waits=len(waits),
        worker_bytes=memory,
        workers_seen=seen,
    )


def _waits(loader: Any) -> list[float]:
    """Seconds until each batch of one epoch."""
    found, before = [], time.perf_counter()
    for _ in loader:
        found.append(time.perf_counter() - before)
        before = time.perf_counter()
    return found


def _memory(known: set[int]) -> tuple[int, int]:
    """Proportional memory (PSS; RSS if the system has no PSS) of new children, and their number."""
    total, seen = 0, 0
    for child in psutil.Process().children(recursive=True):
        if child.pid in known:
            continue
        try:
            full = child.memory_full_info()
        except psutil.Error:
            continue
        total += int(getattr(full, "pss", 0) or full.rss)
        seen += 1
    return total, seen
