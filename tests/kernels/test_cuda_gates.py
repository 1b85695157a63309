"""What the CUDA kernels may use, from the compiler's own account: no GPU and no driver needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastpipe.kernels.cuda_compile import (
    Assembled,
    assemble,
    complaints,
    find_tool,
    missing_package,
    ptx_files,
)
from fastpipe.kernels.cuda_schedule import kernel_names

CAPABILITIES = [(8, 0), (9, 0), (10, 0)]
NAMES = sorted({name for bits in (8, 16, 32) for name in kernel_names(bits)})
BAD = Path(__file__).parent / "cuda_bad_kernels.py"

pytestmark = [
    pytest.mark.skipif(missing_package() is not None, reason="numba-cuda is not installed: fastpipe[cuda]"),
    pytest.mark.skipif(
        find_tool("ptxas") is None, reason="no ptxas in CUDA_HOME, the PATH or triton's wheel"
    ),
]


def assembled(ptx: Path, cc: tuple[int, int]) -> Assembled:
    ptxas = find_tool("ptxas")
    assert ptxas is not None
    return assemble(ptx.read_text(), cc, ptxas)


@pytest.mark.parametrize("cc", CAPABILITIES, ids=["sm_80", "sm_90", "sm_100"])
def test_kernels_keep_their_limits(cc: tuple[int, int]) -> None:
    """No spills, no stack, no float64 in pixel kernels, no contraction, at most 40 (or 72) registers."""
    files = ptx_files(cc, NAMES)
    found = {name: assembled(file, cc) for name, file in files.items()}
    for name, needs in found.items():
        print(f"{name:16} {needs.registers:3} registers, {needs.shared} bytes shared")
    assert [text for name, needs in found.items() for text in complaints(name, needs)] == []


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PTX of kernels that must not pass."""
    folder = tmp_path_factory.mktemp("bad")
    subprocess.run([sys.executable, "-P", str(BAD), str(folder)], check=True, timeout=200)
    return folder


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("spilling", "bytes of spills"),
        ("spilling", "registers, at most 40"),
        ("local_array", "bytes of stack"),
        ("doubles", "float64 instructions"),
        ("contracted", "multiply-adds with one rounding"),
    ],
)
def test_the_gate_can_fail(bad: Path, name: str, complaint: str) -> None:
    wrong = complaints(name, assembled(bad / f"{name}.ptx", (9, 0)))
    assert any(complaint in text for text in wrong), wrong


def test_the_same_sum_passes_without_contraction(bad: Path) -> None:
    assert complaints("exact", assembled(bad / "exact.ptx", (9, 0))) == []
