"""The speed of reading the data's own files: whole files, in order and at random, cold and warm.

Cold means that the page cache was asked to forget each file (posix_fadvise DONTNEED, which needs no rights
and touches nothing else); whether it did is tried by reads that may not wait (RWF_NOWAIT), on a few files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

_MOST_BYTES = 256 << 20
_MOST_FILES = 2000
_PROBES = 8
_THREADS = 8
_CHUNK = 1 << 20
_ROUNDS = 8
# A file larger than this (a .beton) is read at random places, in pieces of an image's size.
_LARGE_FILE = 64 << 20
_PIECE = 128 << 10

Extent = tuple[str, int, int]
"""Path, offset and bytes of what one read takes."""


def forget(path: str) -> bool:
    """Ask the page cache to drop the file. False where this system has no such call, or refuses."""
    if not hasattr(os, "posix_fadvise"):
        return False
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def is_cached(path: str) -> bool | None:
    """Whether the file's first byte is in memory; None where the file system cannot tell.

    Asking makes the kernel fetch the page, so a file for a cold read must not be asked about.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        os.preadv(handle, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # EOPNOTSUPP
        return None
    finally:
        os.close(handle)
    return True


def pick(
    paths: Sequence[str],
    sizes: Sequence[int],
    rng: np.random.Generator,
    *,
    most_bytes: int = _MOST_BYTES,
    large_file: int = _LARGE_FILE,
) -> tuple[list[Extent], ...]:
    """Disjoint extents for (in order, at random, at random by many threads), each within the bounds.

    Few files are shared by all three: they are forgotten before each.
    """
    if len(paths) == 1 and sizes[0] > large_file:
        return _pieces(paths[0], sizes[0], rng, most_bytes)
    files: list[Extent] = [(path, 0, size) for path, size in zip(paths, sizes, strict=True)]
    share = len(files) // 3 if len(files) >= 30 else len(files)
    first = int(rng.integers(0, len(files) - share + 1))
    in_order = files[first : first + share]
    rest = files[:first] + files[first + share :] if share < len(files) else files
    shuffled = [rest[place] for place in rng.permutation(len(rest))]
    half = len(shuffled) // 2 if share < len(files) else 0
    three = in_order, shuffled[half:], shuffled[:half] or shuffled
    return tuple(_bounded(extents, most_bytes) for extents in three)


def _pieces(path: str, size: int, rng: np.random.Generator, most_bytes: int) -> tuple[list[Extent], ...]:
    count = size // _PIECE
    start = int(rng.integers(0, max(1, count // 2)))
    places = rng.permutation(count)
    in_order = [(path, place * _PIECE, _PIECE) for place in range(start, min(count, start + _MOST_FILES))]
    at_random = [(path, int(place) * _PIECE, _PIECE) for place in places[: 2 * _MOST_FILES]]
    three = in_order, at_random[::2], at_random[1::2]
    return tuple(_bounded(extents, most_bytes) for extents in three)


def _bounded(extents: Sequence[Extent], most_bytes: int) -> list[Extent]:
    kept: list[Extent] = []
    total = 0
    for extent in extents[:_MOST_FILES]:
        if kept and total + extent[2] > most_bytes:
            break
        kept.append(extent)
        total += extent[2]
    return kept


def read_rates(
    paths: Sequence[str],
    sizes: Sequence[int],
    *,
    seconds: float,
    seed: int = 0,
    most_bytes: int = _MOST_BYTES,
    large_file: int = _LARGE_FILE,
) -> dict[str, Any]:
    """Rates of whole-file reads, each for at most `seconds` and `most_bytes`.

    in_order, random, random_threads (8 of them) are cold where `cold` is True; warm is the second reading of
    the random files. cold: False when the cache kept its pages, None when that cannot be told.
    """
    rng = np.random.default_rng(seed)
    in_order, at_random, threaded = pick(paths, sizes, rng, most_bytes=most_bytes, large_file=large_file)
    cold = _turns_cold([paths[place] for place in rng.permutation(len(paths))[:_PROBES]])
    return {
        "cold": cold,
        "in_order": _timed(in_order, seconds, threads=1, cold=True),
        "random": _timed(at_random, seconds, threads=1, cold=True),
        "random_threads": _timed(threaded, seconds, threads=_THREADS, cold=True),
        "threads": _THREADS,
        "warm": _warm(at_random, seconds),
    }


def _turns_cold(paths: Sequence[str]) -> bool | None:
    answers = [is_cached(path) if forget(path) else True for path in paths]
    known = [answer for answer in answers if answer is not None]
    return None if not known else sum(known) <= len(known) // 2


def _warm(extents: Sequence[Extent], seconds: float) -> dict[str, Any]:
    few = _timed(extents, seconds / 2, threads=1, cold=False)["reads"]
    return _timed(extents[:few], seconds / 2, threads=1, cold=False)


def _timed(
    extents: Sequence[Extent],
    seconds: float,
    *,
    threads: int,
    cold: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Read the extents in up to eight rounds, until the time is over. Rates: median and quartiles."""
    if cold:
        for path in dict.fromkeys(path for path, _, _ in extents):
            forget(path)
    rounds = _split(extents, _ROUNDS)
    end_s = clock() + seconds
    rates, latencies, total, spent_s = [], [], 0, 0.0
    with ThreadPoolExecutor(threads) as pool:
        for some in rounds:
            begin_s = clock()
            found = list(pool.map(_read, some))
            round_s = max(clock() - begin_s, 1e-9)
            size = sum(num for num, _ in found)
            rates.append((size / round_s, len(found) / round_s))
            latencies += [taken_s for _, taken_s in found]
            total, spent_s = total + size, spent_s + round_s
            if clock() > end_s:
                break
    return {
        "bytes_per_s": _spread([rate for rate, _ in rates]),
        "reads_per_s": _spread([rate for _, rate in rates]),
        "latency_ms": {
            f"p{percent}": 1000 * float(np.percentile(latencies, percent)) for percent in (50, 99)
        },
        "reads": len(latencies),
        "bytes": total,
        "seconds": spent_s,
        "rounds": len(rates),
    }


def _split(extents: Sequence[Extent], most: int) -> list[Sequence[Extent]]:
    size = max(1, -(-len(extents) // most))
    return [extents[start : start + size] for start in range(0, len(extents), size)]


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "low": low, "high": high}


def _read(extent: Extent) -> tuple[int, float]:
    """Bytes read and seconds taken, opening included: a loader opens each file as well."""
    path, offset, size = extent
    begin_s = time.perf_counter()
    handle = os.open(path, os.O_RDONLY)
    try:
        done = 0
        while done < size:
            piece = os.pread(handle, min(_CHUNK, size - done), offset + done)
            if not piece:
                break
            done += len(piece)
    finally:
        os.close(handle)
    return done, time.perf_counter() - begin_s


def disk_notes(rates: dict[str, Any]) -> list[str]:
    """Whether the cold figures are cold, and which caches cannot be emptied."""
    if rates["cold"] is False:
        return [
            "The file system ignores POSIX_FADV_DONTNEED (or the files are in memory, or not yet written to "
            "disk): the reads called cold came from the page cache."
        ]
    if rates["cold"] is None:
        return ["It is unknown whether the page cache dropped the files: cold reads may be warm."]
    return [
        "Cold refers to this machine's page cache; caches of a hypervisor, a server or a disk stay filled."
    ]
