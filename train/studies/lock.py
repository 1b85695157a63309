"""A lock for each run, for processes of several machines that share one folder.

The lock of `seed-1` is the file `seed-1.lock-N` with the highest N. It says who holds it, and a thread
touches it. A holder that is gone (its process has ended on this machine, or nothing touched the file for a
while) is followed by N + 1, never removed: so two processes that find it dead cannot both get the lock, and
no lock of the living can be taken away by mistake. A hard link makes a file under its final name with its
contents, or fails, on NFS too; flock does not work there.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from fastpipe.errors import DataError
from fastpipe.system.stop_signals import end_at_once

BEAT_S = 15.0
STALE_S = 180.0
"""A lock of another machine that was not touched for so long belongs to nobody."""


@contextlib.contextmanager
def held(run: Path) -> Iterator[bool]:
    """Whether this process has the lock of the run folder `run` inside the block; it does not wait.

    If another machine took the lock because this one was suspended, the process ends at once: two writers
    would damage the run. Raises DataError if the folder cannot be written.
    """
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        mine = _acquire(run)
    except OSError as error:
        raise DataError(
            f"no lock could be made next to {str(run)!r}: {error.strerror}. Name another --output"
        ) from error
    if mine is None:
        yield False
        return
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(run, mine, done), name="study-lock", daemon=True)
    beat.start()
    try:
        yield True
    finally:
        done.set()
        beat.join()
        mine.unlink(missing_ok=True)


def clear(run: Path) -> None:
    """Remove what dead holders of a finished run left; whoever locks it now finds it finished."""
    for _, path in _generations(run):
        if not _alive(path):
            path.unlink(missing_ok=True)


def holder(run: Path) -> str | None:
    """Who works on the run, as `host, process 12`; None if nobody does."""
    found = _generations(run)
    if not found or not _alive(found[-1][1]):
        return None
    owner = _owner(found[-1][1])
    return f"{owner.get('host', 'unknown host')}, process {owner.get('pid', '?')}"


def _generations(run: Path) -> list[tuple[int, Path]]:
    found = []
    for path in run.parent.glob(f"{run.name}.lock-*"):
        number = path.name.rpartition("-")[2]
        if number.isdecimal():
            found.append((int(number), path))
    return sorted(found)


def _acquire(run: Path) -> Path | None:
    found = _generations(run)
    if found and _alive(found[-1][1]):
        return None
    mine = run.with_name(f"{run.name}.lock-{found[-1][0] + 1 if found else 1}")
    return mine if _make(mine) else None


def _make(path: Path) -> bool:
    """Make the file with its contents; False if another process was first."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    temporary.write_text(json.dumps(_self()), encoding="utf-8")
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: whoever reads it half-written judges by its age
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(_self()))
            return True
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)


def _self() -> dict[str, object]:
    me = psutil.Process()
    # A process id is used again, the time of its start is not.
    return {"host": socket.gethostname(), "space": _space(), "pid": me.pid, "started": me.create_time()}


def _space() -> str:
    """What process ids mean something in: containers of one machine may have one name and different ids."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _owner(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(path: Path) -> bool:
    owner = _owner(path)
    pid, started = owner.get("pid"), owner.get("started")
    here = (owner.get("host"), owner.get("space")) == (socket.gethostname(), _space())
    if here and isinstance(pid, int) and isinstance(started, float):
        try:
            return abs(psutil.Process(pid).create_time() - started) < 1.0
        except psutil.Error:
            return False
    try:
        return _now(path.parent) - path.stat().st_mtime < STALE_S
    except FileNotFoundError:
        return False


def _now(folder: Path) -> float:
    """The clock of the file system, which may be a server's: that is what mtime is compared with."""
    probe = folder / f".clock-{secrets.token_hex(6)}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _beat(run: Path, mine: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(mine)
        found = _generations(run)
        if found and found[-1][1] != mine and not done.is_set():
            os.write(2, f"fastpipe-train: {run}: another process took over this run\n".encode())
            end_at_once(signal.SIGUSR1)  # the status that means: start again
