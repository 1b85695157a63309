"""The user's cache directory, atomic writes, and folders that are built once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastpipe.errors import DataError

__all__ = ["build_once", "file_lock", "make_dir", "replace_file", "user_cache_dir"]

_log = logging.getLogger("fastpipe.storage")
_STAMP = "fingerprint.json"


def user_cache_dir(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return `cache_dir` if given, else $FASTPIPE_CACHE, else fastpipe/ in $XDG_CACHE_HOME or ~/.cache.

    Nothing is created. Raises DataError if there is no home directory to fall back on.
    """
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if own := os.environ.get("FASTPIPE_CACHE"):
        return Path(own).expanduser()
    # The XDG base directory specification: a relative path must be ignored.
    if (xdg := os.environ.get("XDG_CACHE_HOME")) and os.path.isabs(xdg):
        return Path(xdg) / "fastpipe"
    try:
        return Path.home() / ".cache" / "fastpipe"
    except RuntimeError as err:
        raise DataError(f"no cache directory: {err}. Set FASTPIPE_CACHE to a writable folder.") from err


def make_dir(folder: Path) -> None:
    """Create `folder` and its parents. Raises DataError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise _unwritable(folder, err) from err


def replace_file(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a temporary file next to `path`, then rename it to `path`. Raises OSError."""
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # a read-only file system refuses that too, with another error
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` (created if absent); the kernel releases it if we die."""
    with open(path, "a+b") as file:
        try:
            _lock(file.fileno())
        except OSError as err:  # Some network file systems have no locks; renames are atomic without them.
            _log.info("no file lock on %s (%s): two processes may build the same folder", path, err)
        yield


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def build_once(target: Path, fingerprint: dict[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the folder `target`; `build(folder)` fills it first unless it is already complete.

    A folder is complete if its `fingerprint.json` equals `fingerprint` and it has as many files as when it
    was built. Processes that arrive together wait for the first; a killed build leaves no complete folder.
    `fingerprint` must survive JSON. Raises DataError if the cache cannot be written.
    """
    if _stands(target, fingerprint):
        return target
    make_dir(target.parent)
    try:
        with file_lock(target.parent / f"{target.name}.lock"):
            if not _stands(target, fingerprint):
                _build(target, fingerprint, build)
    except (PermissionError, NotADirectoryError, FileExistsError) as err:
        raise _unwritable(target.parent, err) from err
    except OSError as err:
        if err.filename is None or not os.fspath(err.filename).startswith(os.fspath(target)):
            raise
        raise _unwritable(target.parent, err) from err
    return target


def _build(target: Path, fingerprint: dict[str, Any], build: Callable[[Path], None]) -> None:
    for stale in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    temporary = target.parent / f"{target.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        temporary.mkdir()
        build(temporary)
        stamp = {"fingerprint": fingerprint, "num_files": _num_files(temporary)}
        (temporary / _STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        if target.exists():  # An older version, or one that lost files: move it away, then delete it.
            old = target.parent / f"{target.name}.tmp-old-{secrets.token_hex(4)}"
            target.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _stands(target: Path, fingerprint: dict[str, Any]) -> bool:
    try:
        stamp = json.loads((target / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    expected = {"fingerprint": fingerprint, "num_files": _num_files(target)}
    return bool(stamp == json.loads(json.dumps(expected)))


def _num_files(folder: Path) -> int:
    """Count the files in `folder`, without the stamp and without our own index files."""
    names = (name for _, _, files in os.walk(folder) for name in files)
    return sum(name != _STAMP and not name.startswith(".fastpipe-index") for name in names)


def _unwritable(folder: Path, err: OSError) -> DataError:
    return DataError(
        f"the cache directory {str(folder)!r} cannot be written ({err.strerror}). "
        "Pass cache_dir=, or set FASTPIPE_CACHE to a writable folder."
    )
