"""The two checkouts of scripts/same-bytes: how each runs its own commands, and the data that both read."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

__all__ = ["A_RUN_S", "Pair", "Results", "Side", "both", "prepare"]

Results = dict[str, list[str]]
"""The results of each case: they must be equal on both sides, and none may begin with "failed: "."""
A_RUN_S = 900
"""The time limit of one command."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One checkout, and the folder where its commands run. data: what both read."""

    root: Path
    folder: Path
    data: Path

    def program(self, name: str) -> str:
        """The path of one of its commands."""
        return str(self.root / ".venv" / "bin" / name)

    def environment(self) -> dict[str, str]:
        """One thread, no GPU, its own cache, and no variable of the caller that changes a result."""
        kept = {
            name: text for name, text in os.environ.items() if not name.startswith(("FASTPIPE", "PYTHON"))
        }
        own = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
        return {**kept, **own, "FASTPIPE_CACHE": str(self.folder / "cache"), "NO_COLOR": "1"}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A finished command; the first word is a program of the checkout."""
        argv = [self.program(command[0]), *command[1:]]
        return subprocess.run(
            argv, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=A_RUN_S
        )

    def must(self, *command: str) -> str:
        """The output of a command. Raises RuntimeError with its message if it fails."""
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout


Pair = tuple[Side, Side]


def both(pair: Pair, work: Callable[[Side], Results]) -> tuple[Results, Results]:
    """The same work on both sides, at the same time."""
    with ThreadPoolExecutor(2) as threads:
        old, new = threads.map(work, pair)
    return old, new


def prepare(side: Side) -> None:
    """Make the data that both sides read: some photos of the demo, odd ones, and .beton files of them."""
    if (side.data / "damaged.beton").exists():
        return
    side.must("fastpipe-write", "demo", str(side.data / "demo.beton"), "--split", "train")
    for photo in sorted((side.folder / "cache" / "demo" / "train").glob("*/00[0-4].jpg")):
        target = side.data / "photos" / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, target)
    program = str(Path(__file__).with_name("same_data.py"))
    side.must("python", program, "odd", str(side.data))
    for name in ("photos", "odd"):
        side.must("fastpipe-write", str(side.data / name), str(side.data / f"{name}.beton"))
    side.must("python", program, "damage", str(side.data))
