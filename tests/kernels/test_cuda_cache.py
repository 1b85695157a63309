"""Compiled kernels on disk: one process compiles, the others wait, and what goes wrong is said."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from fastpipe.kernels.cuda import cache as cuda_cache
from fastpipe.kernels.cuda.cache import kernel_folder, ptx_files

CC = (9, 0)
# Who compiles writes its number down, and is not done before the other process has come as far.
RACE = """
import os, sys, time
from pathlib import Path
from fastpipe.kernels.cuda import cache as cuda_cache

def compile_slowly(cc, folder):
    with open(folder / "compilers", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while len(list(folder.glob("here-*"))) < 2:
        time.sleep(0.05)
    time.sleep(1.0)
    for name in ("a", "b"):
        (folder / f"{name}.ptx").write_text(name)

cuda_cache._compile = compile_slowly
(Path(sys.argv[1]) / f"here-{os.getpid()}").touch()
files = cuda_cache.ptx_files((9, 0), ["a", "b"], Path(sys.argv[1]))
assert [file.read_text() for file in files.values()] == ["a", "b"]
"""


def test_of_several_processes_one_compiles_and_all_have_the_files(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", RACE, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len((tmp_path / "compilers").read_text().split()) == 1


def compile_quickly(cc: Any, folder: Path) -> None:
    (folder / "a.ptx").write_text("ptx")


def test_the_whole_catalogue_is_compiled_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        started.append(command)
        return popen([sys.executable, "-c", "print('1 of 2'); print('2 of 2')"], **options)

    monkeypatch.setattr(cuda_cache.subprocess, "Popen", start)
    with pytest.raises(RuntimeError, match="no CUDA kernels of these names: a, b"):
        ptx_files(CC, ["a", "b"], tmp_path)
    assert len(started) == 1 and started[0][-2:] == ["--folder", str(tmp_path)]


class Terminal(io.StringIO):
    """Keeps what is written; `seen` by a person, or a file."""

    seen = True

    def isatty(self) -> bool:
        return self.seen


@pytest.mark.parametrize("seen", [True, False])
def test_a_terminal_tells_how_far_the_compiling_is_and_a_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    popen, stderr = subprocess.Popen, Terminal()
    stderr.seen = seen

    def start(command: list[str], **options: Any) -> Any:
        return popen([sys.executable, "-c", "print('1 of 2'); print('2 of 2')"], **options)

    monkeypatch.setattr(cuda_cache.subprocess, "Popen", start)
    monkeypatch.setattr(sys, "stderr", stderr)
    with pytest.raises(RuntimeError, match="no CUDA kernels of these names"):
        ptx_files(CC, ["a"], tmp_path)
    lines = stderr.getvalue().split("\r\x1b[K")
    head = "fastpipe: compiling CUDA kernels for compute capability 9.0, once on this machine"
    assert lines[:4] == ["", head, f"{head}: 1 of 2", f"{head}: 2 of 2"] if seen else lines == [""]
    assert lines[-1] == "", "the line is gone at the end"


def test_waiting_for_too_long_is_said_and_the_process_compiles_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(cuda_cache, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(cuda_cache, "_compile", compile_quickly)
    with open(tmp_path / "compiling.lock", "a+b") as held:
        fcntl.flock(held.fileno(), fcntl.LOCK_EX)
        started_s = time.monotonic()
        with pytest.warns(RuntimeWarning, match="compiling CUDA kernels for 0 s.*compiles them for itself"):
            files = ptx_files(CC, ["a"], tmp_path)
    assert files["a"].read_text() == "ptx" and time.monotonic() - started_s >= 0.3


def test_a_folder_that_cannot_be_written_is_said_and_the_kernels_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_cache, "_compile", compile_quickly)
    (tmp_path / "file").write_text("no folder can be made here")
    with pytest.warns(RuntimeWarning, match=r"cannot be kept in .*Remedy: set NUMBA_CACHE_DIR"):
        files = ptx_files(CC, ["a"], tmp_path / "file" / "kernels")
    assert files["a"].read_text() == "ptx"
    assert not str(files["a"]).startswith(str(tmp_path))


def test_a_read_only_folder_that_holds_the_kernels_serves_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.ptx").write_text("ptx")

    def refuse(**options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cuda_cache.tempfile, "TemporaryFile", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ptx_files(CC, ["a"], tmp_path)["a"].read_text() == "ptx"


def test_numbas_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen

    def fail(command: list[str], **options: Any) -> Any:
        return popen([sys.executable, "-c", "raise SystemExit('NVVM says no')"], **options)

    monkeypatch.setattr(cuda_cache.subprocess, "Popen", fail)
    with pytest.raises(RuntimeError, match="NVVM says no"):
        ptx_files(CC, ["a"], tmp_path)


def test_the_folder_follows_numbas_own_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What cannot be written there is said by `ptx_files`; it is not passed over for another folder."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.fspath(tmp_path / "not" / "there"))
    folder = kernel_folder(CC)
    assert folder.parent == tmp_path / "not" / "there" and folder.name.startswith("cuda-90-")
