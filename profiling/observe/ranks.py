"""How long each rank of one machine waits for data: one file per rank in a folder, which rank 0 reads.

No collective is called: a rank that is late or gone delays rank 0 by at most PATIENCE_S, once. All ranks
report at the same step, the last observed one, so no rank has to wait for another.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from fastpipe.profiling.observe.summary import LoaderSummary
from fastpipe.system.files import replace_file

PATIENCE_S = 20.0
"""How long rank 0 waits for the others' figures."""

_LARGEST = 4096  # bytes of one rank's file, which has 250
_NOTICEABLE = 0.05  # of a step


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWait:
    """The loader that takes most of a rank's time; ms per step. exposed: not hidden by a busy GPU."""

    rank: int
    steps: int
    images_per_s: float
    step_ms: float
    wait_ms: float
    exposed_ms: float
    wait_p99_ms: float


def wait_of(rank: int, main: LoaderSummary) -> RankWait:
    """This rank's own."""
    return RankWait(
        rank=rank,
        steps=main.steps,
        images_per_s=main.images_per_s,
        step_ms=main.step_ms,
        wait_ms=main.wait_ms,
        exposed_ms=main.exposed_ms,
        wait_p99_ms=main.wait_p99_ms,
    )


def meeting_of(rank: int | None) -> Meeting | None:
    """The shared folder of this machine's ranks; None outside torchrun, or with one rank here.

    The ranks are children of one process, whose id and start time give the folder a unique name. On machines
    without rank 0, nobody reads it.
    """
    size = os.environ.get("LOCAL_WORLD_SIZE", "")
    elsewhere = os.environ.get("GROUP_RANK", "0") != "0"
    if rank is None or elsewhere or not size.isdigit() or int(size) < 2:
        return None
    try:
        parent = psutil.Process(os.getppid())
        began = f"{parent.pid}-{parent.create_time():.2f}"
    except psutil.Error:
        return None
    name = f"fastpipe-ranks-{os.getuid()}-{began}-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return Meeting(Path(tempfile.gettempdir(), name), rank=rank, size=int(size))


class Meeting:
    """A private folder of this user, with one small file per rank."""

    def __init__(self, folder: Path, *, rank: int, size: int) -> None:
        self.folder, self.rank, self.size = folder, rank, size

    def bring(self, own: RankWait | None) -> None:
        """Write this rank's figures, or null. OSError if that is impossible."""
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir(mode=0o700)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(f"{self.folder} is not a private folder of this user")
        text = json.dumps(None if own is None else asdict(own))
        replace_file(str(self.folder / f"{self.rank}.json"), lambda file: file.write(text.encode()))

    def meet(self, patience_s: float = PATIENCE_S) -> tuple[tuple[RankWait, ...], int]:
        """The figures of the ranks that came in time, by rank, and how many ranks did not come."""
        end_s = time.monotonic() + patience_s
        while len(paths := sorted(self.folder.glob("*.json"))) < self.size and time.monotonic() < end_s:
            time.sleep(0.02)
        found = [wait for path in paths if (wait := _read(path)) is not None]
        return tuple(sorted(found, key=lambda wait: wait.rank)), max(0, self.size - len(paths))

    def leave(self) -> None:
        """Rank 0 takes the folder away."""
        if self.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path) -> RankWait | None:
    """One rank's figures; None for a rank without a loader, or a file of another version."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_LARGEST))
        whole = {field.name: values[field.name] for field in fields(RankWait)}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return RankWait(**whole) if all(isinstance(value, int | float) for value in whole.values()) else None


def spread_words(waits: tuple[RankWait, ...]) -> str:
    """The shortest and the longest wait of a rank per step, and the meaning for all ranks."""
    if len(waits) < 2:
        return ""
    least, most = min(waits, key=_exposed), max(waits, key=_exposed)
    text = (
        f"Ranks of this machine wait {least.exposed_ms:.1f} ms (rank {least.rank}) to "
        f"{most.exposed_ms:.1f} ms (rank {most.rank}) per step"
    )
    if most.exposed_ms - least.exposed_ms < _NOTICEABLE * most.step_ms:
        return f"{text}: about the same."
    return f"{text}: the others wait for rank {most.rank} when they synchronise."


def _exposed(wait: RankWait) -> float:
    return wait.exposed_ms
