"""All probes together: the host card as plain values."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastpipe.profiling.host.cpu import cpu_facts, cpu_notes
from fastpipe.profiling.host.disk import disk_notes, read_rates
from fastpipe.profiling.host.files import file_facts, file_notes
from fastpipe.profiling.host.gpu import Cuda, gpu_facts, gpu_notes
from fastpipe.profiling.host.memory import memory_facts, memory_notes
from fastpipe.profiling.host.software import jpeg_simd_gain, software_facts, software_notes
from fastpipe.profiling.host.storage import storage_facts, storage_notes
from fastpipe.profiling.measure.inputs import open_train_index
from fastpipe.rng import permutation
from fastpipe.system.proc import ROOT

__all__ = ["SCHEMA_VERSION", "make_card", "quick_card"]

SCHEMA_VERSION = 1
"""Version of the host card: raised when a field changes its meaning or is removed."""

_SAMPLED = 500
_TIMED = 6000
_SECONDS = 2.0

Announce = Callable[[str], None]


def quick_card(where: str | None, root: Path = ROOT) -> dict[str, Any]:
    """The fast part: everything that is looked up, not measured. where: the data's folder."""
    cpu, memory, gpus = cpu_facts(root), memory_facts(root), gpu_facts(root, measuring=False)
    software, storage = software_facts(), storage_facts(where or os.curdir, root)
    return {
        "schema": "fastpipe-host",
        "schema_version": SCHEMA_VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu,
        "memory": memory,
        "gpus": gpus,
        "storage": {**storage, "reads": None},
        "software": software,
        "data": None,
        "notes": [
            *cpu_notes(cpu),
            *memory_notes(memory),
            *gpu_notes(gpus, root),
            *storage_notes(storage),
        ],
    }


def make_card(
    data: str | None,
    announce: Announce = lambda part: None,
    *,
    root: Path = ROOT,
    cuda: Cuda | None = None,
    seconds: float = _SECONDS,
) -> dict[str, Any]:
    """The whole card; with `data` also its files and the speed of reading them, `seconds` for each figure.

    Raises what opening the data raises.
    """
    announce("data set")
    index = None if data is None else open_train_index(data)[0]
    announce("machine")
    card = quick_card(None if index is None else index.root, root)
    announce("JPEG decoder")
    card["software"]["jpeg_simd_gain"] = jpeg_simd_gain()
    card["notes"] += software_notes(card["software"])
    announce("GPU copies")
    card["gpus"] = gpu_facts(root, cuda)
    if index is None:
        card["notes"].append("Reads were not measured, because no DATA was named.")
        return card
    announce("reads")
    timed = np.sort(permutation(1, 0, len(index))[:_TIMED])
    paths = [index.path(place) for place in timed.tolist()]
    card["storage"]["reads"] = read_rates(*_existing(paths), seconds=seconds)
    announce("files")
    sample = [index.path(place) for place in permutation(0, 0, len(index))[:_SAMPLED].tolist()]
    card["data"] = {"name": data, "root": index.root, "files": len(index), "classes": len(index.classes)}
    card["data"].update(file_facts(sample, seconds=seconds))
    card["notes"] += [*disk_notes(card["storage"]["reads"]), *file_notes(card["data"])]
    return card


def _existing(paths: list[str]) -> tuple[list[str], list[int]]:
    """The existing files with their sizes: a file that is gone since the listing is not read."""
    found = []
    for path in paths:
        try:
            found.append((path, os.stat(path).st_size))
        except OSError:
            continue
    return [path for path, _ in found], [size for _, size in found]
