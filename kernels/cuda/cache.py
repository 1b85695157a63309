"""The compiled CUDA kernels on disk: made once per machine, by one process, while the others wait for it.

    ptx_files(cc, names) -> all files there? -> lock -> one process compiles the whole catalogue -> PTX files

The folder is named after a hash of the room's source and numba-cuda's version, so an update never finds
kernels of another version, and a file appears in it whole or not at all.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from fastpipe.kernels.stamp import source_stamp

__all__ = ["kernel_folder", "kernel_hash"]

_log = logging.getLogger(__name__)

Capability = tuple[int, int]

# The whole catalogue takes 12 s; a process that holds the lock for longer than this is stuck.
_PATIENCE_S = 300.0
_POLL_S = 0.1


def ptx_files(cc: Capability, names: Sequence[str], folder: Path | None = None) -> dict[str, Path]:
    """PTX of each kernel. If one is not on disk, it is compiled together with the rest of the catalogue.

    folder: where files are kept; `kernel_folder(cc)` by default. Of processes that arrive together, one
    compiles and the others wait, at most 300 s; after that each compiles for itself and warns. A folder
    that cannot be written also causes a warning, and the files then last as long as this process.
    Raises RuntimeError with numba's message if compiling fails.
    """
    target = _writable(folder or kernel_folder(cc))
    files = {name: target / f"{name}.ptx" for name in names}
    if _all_there(files):
        return files
    with _alone(target):
        if not _all_there(files):
            _compile(cc, target)
    absent = [name for name, file in files.items() if not file.is_file()]
    if absent:
        raise RuntimeError(f"the catalogue has no CUDA kernels of these names: {', '.join(absent)}")
    return files


def _all_there(files: dict[str, Path]) -> bool:
    return all(file.is_file() for file in files.values())


def kernel_folder(cc: Capability) -> Path:
    """Where kernels for `cc` are kept: $NUMBA_CACHE_DIR, else next to the source, else the user's cache."""
    room = Path(__file__).parent
    name = f"cuda-{cc[0]}{cc[1]}-{kernel_hash()}"
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or room / "__pycache__")
    if os.environ.get("NUMBA_CACHE_DIR") or os.access(folder if folder.exists() else folder.parent, os.W_OK):
        return folder / name
    return Path.home() / ".cache" / "fastpipe" / name


@cache
def kernel_hash() -> str:
    """16 hexadecimal digits that change with the room's source and with numba-cuda's version."""
    made_of = importlib.metadata.version("numba-cuda") + source_stamp()
    return hashlib.sha256(made_of.encode()).hexdigest()[:16]


def _writable(folder: Path) -> Path:
    """`folder`, made if necessary and writable; else a folder of this process, with a warning.

    A folder with the right content may be read-only: a container image, compiled when it was built.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if any(folder.glob("*.ptx")):
            return folder
        warnings.warn(
            f"CUDA kernels cannot be kept in {str(folder)!r} ({error.strerror}): every process compiles them "
            "anew, which takes about 12 s. Remedy: set NUMBA_CACHE_DIR to a folder that can be written",
            RuntimeWarning,
            stacklevel=4,
        )
        return _own_folder()


@cache
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="fastpipe-cuda-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, or log why not and continue without it. The kernel drops the lock if we die."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(folder / "compiling.lock", "a+b"))
            locked = _lock(file.fileno())
        except OSError as error:  # some network file systems have no locks; files still appear whole
            _log.warning("no lock on %s (%s): two processes may compile the same kernels", folder, error)
            locked = True
        if not locked:
            warnings.warn(
                f"another process has been compiling CUDA kernels for {_PATIENCE_S:.0f} s, in "
                f"{str(folder)!r}: this one compiles them for itself",
                RuntimeWarning,
                stacklevel=5,
            )
        yield


def _lock(descriptor: int) -> bool:
    """Whether the lock came in time. Raises OSError if files have no locks."""
    deadline_s = time.monotonic() + _PATIENCE_S
    said = False
    while not _try_lock(descriptor):
        if time.monotonic() > deadline_s:
            return False
        if not said:
            _log.info("another process compiles the CUDA kernels: waiting for it")
            said = True
        time.sleep(_POLL_S)
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # held by another; PermissionError is Windows's word for it
        return False
    return True


def _compile(cc: Capability, folder: Path) -> None:
    """Compile the kernels that the folder lacks, in one process, and report progress."""
    command = [sys.executable, "-P", "-m", "fastpipe.kernels.cuda.compile"]
    command += ["--cc", *map(str, cc), "--folder", str(folder)]
    # The simulator cannot compile, and a debug switch would change the code.
    env = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_ENABLE_CUDASIM")}
    started_s = time.monotonic()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as complaints,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=env, encoding="utf-8"
        ) as process,
    ):
        assert process.stdout is not None
        text = f"compiling CUDA kernels for compute capability {cc[0]}.{cc[1]}, once on this machine"
        _tell(text)
        for line in process.stdout:  # "3 of 32" after each kernel
            _show(f"{text}: {line.strip()}")
        if process.wait():
            complaints.seek(0)
            raise RuntimeError(f"numba-cuda could not compile the kernels:\n{complaints.read()[-2000:]}")
    _tell(f"CUDA kernels compiled in {time.monotonic() - started_s:.0f} s, kept in {folder}")
    _show("")


def _tell(text: str) -> None:
    """Write to the logger; a terminal has its own line instead."""
    _log.info("%s", text)
    _show(text)


def _show(text: str) -> None:
    """A line on the terminal that the next one overwrites."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" + (f"fastpipe: {text}" if text else ""))
        sys.stderr.flush()
