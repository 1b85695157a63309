"""What a CUDA batch costs the host: draws, plan, launches. CPU-microseconds of the thread; needs no GPU.

    python -P benchmarks/cuda_host_cost.py [--batches 400] [--against FOLDER --pairs 10] [--json FILE]

256 images of 224 x 224. The launches go through ctypes into a function of the C library that does nothing,
so a real driver's own 2 us a launch come on top, as do the copies and the event that torch makes.
--against: another checkout, which the same program measures in alternating processes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

NUM, SIDE = 256, 224
PARTS = ("draw", "plan", "launch")
Row = dict[str, list[float]]


def cases() -> dict[str, tuple[Any, ...]]:
    """The random steps of four trainings."""
    from fastpipe.transforms import ColOut, HorizontalFlip, MixUp, RandAugment, RandomErasing

    flip = HorizontalFlip(p=0.5)
    return {
        "torchvision's RandAugment": (flip, RandAugment(space="torchvision")),
        "Composer's RandAugment": (flip, RandAugment()),
        "Hot: RandAugment, ColOut, MixUp": (flip, RandAugment(), ColOut(), MixUp(alpha=0.25)),
        "timm: RandAugment, erasing, MixUp": (
            *(flip, RandAugment(space="timm", magnitude=9, mstd=0.5)),
            *(RandomErasing(p=0.25), MixUp(alpha=0.2)),
        ),
    }


def stand_in() -> Any:
    """The driver's calls, answered by functions that exist everywhere and return 0."""

    class Library:
        def __getattr__(self, name: str) -> Any:
            if name != "cuLaunchKernel":
                return lambda *arguments: 0
            launch = ctypes.CDLL(None).sched_yield
            setattr(self, name, launch)
            return launch

    return Library()


class Host:
    """What the loader's thread does for a batch, but for torch's own calls."""

    def __init__(self) -> None:
        from fastpipe.kernels.cuda import ops as cuda_ops
        from fastpipe.kernels.cuda.driver import Driver

        driver = Driver(stand_in())
        driver._functions.update({(0, name): ctypes.c_void_p(1) for name in cuda_ops.kernel_names(16)})
        Driver.shared = lambda: driver  # type: ignore[method-assign, assignment]
        cuda_ops._load_kernels = lambda device, names: None  # type: ignore[assignment]
        stream = type("Stream", (), {"cuda_stream": 7})()
        torch.cuda.current_stream = lambda device=None: stream  # type: ignore[assignment]
        torch.Tensor.record_stream = lambda tensor, stream: None  # type: ignore[method-assign]
        names = (
            "images",
            "numbers",
            "norm",
            "out",
            "reals",
            "longs",
            "matrices",
            "levels",
            "tables",
            "counts",
        )
        names += ("scratch0", "scratch1")
        self.buffers = {name: torch.zeros(64) for name in names}
        self.number = 0

    def batch(self, steps: tuple[Any, ...]) -> tuple[float, ...]:
        """CPU-microseconds of the next batch's parts."""
        from fastpipe.device.draws.draw import draw
        from fastpipe.kernels.cuda.ops import run_launches
        from fastpipe.kernels.cuda.plan import make_plan
        from fastpipe.kernels.cuda.schedule import kernel_names, schedule
        from fastpipe.types import Request

        self.number += 1
        ids = np.arange(NUM) + NUM * self.number
        request = Request(seed=1, epoch=0, batch=self.number, ids=ids, repeats=np.zeros_like(ids))
        clock = time.thread_time_ns
        begun = clock()
        params = draw(steps, request, SIDE, SIDE)
        drawn, ops = clock(), params.ops
        given = (ops.ops, ops.values, ops.matrices, ops.fills, ops.interpolations)
        plan = make_plan((NUM, SIDE, SIDE, 3), *given, params.flip)
        planned = clock()
        launches = schedule(plan.header, SIDE, SIDE, bits=16, channels_last=True, aligned=True)
        run_launches(launches, self.buffers, torch.device("cuda", 0), tuple(kernel_names(16)))
        return tuple((b - a) / 1000 for a, b in ((begun, drawn), (drawn, planned), (planned, clock())))


def measured(batches: int) -> dict[str, dict[str, float]]:
    """The median CPU-microseconds of each part and of the whole, by case."""
    host, found = Host(), {}
    for name, steps in cases().items():
        taken = [host.batch(steps) for _ in range(batches + 50)][50:]
        row = {part: statistics.median([one[place] for one in taken]) for place, part in enumerate(PARTS)}
        found[name] = {**row, "all": statistics.median(sum(one) for one in taken)}
    return found


def elsewhere(folder: Path, batches: int) -> dict[str, dict[str, float]]:
    """The same, of the checkout in `folder`, in a process of its own."""
    with tempfile.TemporaryDirectory() as farm:
        package = Path(farm) / "fastpipe"
        package.mkdir()
        for path in [
            *(folder / "fastpipe").iterdir(),
            *(folder / r for r in ("kernels", "train", "profiling")),
        ]:
            (package / path.name).symlink_to(path.resolve())
        env = {**os.environ, "PYTHONPATH": farm}
        command = [sys.executable, "-P", __file__, "--batches", str(batches), "--bare"]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def compared(against: Path | None, pairs: int, batches: int) -> dict[str, dict[str, Row]]:
    """case -> part -> side -> a figure for each process. The sides alternate; the first pair is dropped."""
    here = Path(__file__).parent.parent
    sides = {"this": here} if against is None else {"against": against, "this": here}
    found: dict[str, dict[str, Row]] = {}
    for pair in range(pairs + 1):
        for side, folder in list(sides.items())[:: 1 if pair % 2 else -1]:
            for case, row in elsewhere(folder, batches).items():
                for part, value in row.items():
                    values = found.setdefault(case, {}).setdefault(part, {}).setdefault(side, [])
                    values.extend([value] if pair else [])
    return found


def main() -> None:
    """Print the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="does it run?")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.bare:
        print(json.dumps(measured(given.batches)))
        return
    pairs, batches = (2, 50) if given.quick else (given.pairs, given.batches)
    found = compared(given.against, pairs, batches)
    record = {
        "what": "CPU-microseconds of the thread, a batch of 256 x 224 x 224: median of a process's batches",
        "command": " ".join(["python", "-P", *sys.argv]),
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "numpy", "numba")},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()},
        "batches": batches,
        "results": found,
    }
    for case, parts in found.items():
        for part, sides in parts.items():
            cells = []
            for side, values in sides.items():
                low, middle, high = statistics.quantiles(values, n=4)
                cells.append(f"{side} {middle:.0f} ({low:.0f}..{high:.0f})")
            print(f"{case:36} {part:7} us: {', '.join(cells)}, n={pairs}")
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
