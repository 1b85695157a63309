"""Decodes every image of a `.beton` file and lists those that cannot be used."""

from __future__ import annotations

import os
import signal
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from fastpipe.errors import SampleError
from fastpipe.storage.beton.dataset import decode_sample
from fastpipe.storage.beton.file import Beton
from fastpipe.storage.progress import Progress, reporting
from fastpipe.system.cgroups import usable_cpus

__all__ = ["Verdict", "verify_beton"]

_CHUNK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Number of decoded images, whether there were checksums to compare, and (id, reason) of each bad one."""

    num_images: int
    checksums: bool
    bad: tuple[tuple[int, str], ...]


def verify_beton(
    path: str | os.PathLike[str], *, num_workers: int | None = None, progress: Progress | None = None
) -> Verdict:
    """Open the file with all checks of `Beton`, compare its checksums, if it has any, and decode every image.

    num_workers: None means one process for each CPU, 0 this process. Raises DataError for a damaged file.
    """
    beton = Beton(path)
    if num_workers is None:
        num_workers = max(1, int(usable_cpus()))
    starts = range(0, len(beton), _CHUNK)
    bad: list[tuple[int, str]] = []
    with reporting(f"Verifying {beton.path}", progress) as report:
        if num_workers == 0:
            for start in starts:
                bad.extend(_bad_in(beton, start))
                report(min(start + _CHUNK, len(beton)), len(beton))
        else:
            # Not multiprocessing.Pool, which waits forever for a killed process.
            with ProcessPoolExecutor(min(num_workers, len(starts)), None, _keep, (beton,)) as pool:
                for k, found in enumerate(pool.map(_bad_here, starts)):
                    bad.extend(found)
                    report(min((k + 1) * _CHUNK, len(beton)), len(beton))
    return Verdict(num_images=len(beton), checksums=beton.checksums is not None, bad=tuple(bad))


_beton: Beton | None = None  # in a process of the pool


def _keep(beton: Beton) -> None:
    global _beton
    _beton = beton
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _bad_here(start: int) -> list[tuple[int, str]]:
    return [] if _beton is None else _bad_in(_beton, start)


def _bad_in(beton: Beton, start: int) -> list[tuple[int, str]]:
    checksums, bad = beton.checksums, []
    for i in range(start, min(start + _CHUNK, len(beton))):
        if checksums is not None and zlib.crc32(beton.encoded(i)) != int(checksums[i]):
            bad.append((i, f"{beton.names[i]}: the bytes differ from those that were written (checksum)"))
            continue
        try:
            decode_sample(beton, i)
        except SampleError as err:
            bad.append((i, str(err)))
    return bad
