"""What the CUDA kernels may use, from the compiler's own account: no GPU and no driver needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastpipe import kernels
from fastpipe.kernels.cuda.cache import ptx_files
from fastpipe.kernels.cuda.compile import (
    Assembled,
    assemble,
    complaints,
    find_tool,
    missing_package,
)
from fastpipe.kernels.cuda.finish_plan import (
    MIXED,
    finish_names,
    schedule_mixed,
    schedule_picked,
    schedule_resize,
)
from fastpipe.kernels.cuda.plan import make_plan
from fastpipe.kernels.cuda.ptx import LOWEST
from fastpipe.kernels.cuda.schedule import kernel_names, schedule, schedule_erase

CAPABILITIES = [(8, 0), (9, 0), (10, 0)]
OTHERS = [divmod(target, 10) for target in LOWEST if divmod(target, 10) not in CAPABILITIES]
NAMES = sorted({name for bits in (8, 16, 32) for name in kernel_names(bits) + finish_names(bits)})
NAMES += [f"mixed_{dtype}" for dtype in MIXED]
BAD = Path(__file__).parent / "cuda_bad_kernels.py"

pytestmark = [
    pytest.mark.cuda_gates,
    pytest.mark.skipif(missing_package() is not None, reason="numba-cuda is not installed"),
    pytest.mark.skipif(
        find_tool("ptxas") is None, reason="no ptxas in CUDA_HOME, the PATH or triton's wheel"
    ),
]


def assembled(ptx: Path, cc: tuple[int, int]) -> Assembled:
    ptxas = find_tool("ptxas")
    assert ptxas is not None
    return assemble(ptx.read_text(), cc, ptxas)


@pytest.mark.parametrize(
    "cc", [*CAPABILITIES, *(pytest.param(cc, marks=pytest.mark.slow) for cc in OTHERS)], ids=str
)
def test_kernels_keep_their_limits(cc: tuple[int, int]) -> None:
    """No spills, no stack, no float64 in pixel kernels, no contraction, at most 40 (or 72) registers."""
    files = ptx_files(cc, NAMES)
    found = {name: assembled(file, cc) for name, file in files.items()}
    for name, needs in found.items():
        print(f"{name:16} {needs.registers:3} registers, {needs.shared} bytes shared")
    assert [text for name, needs in found.items() for text in complaints(name, needs, cc)] == []
    version = "{}.{}".format(*LOWEST[10 * cc[0] + cc[1]])
    for file in files.values():
        assert f"\n.version {version}\n.target sm_{cc[0]}{cc[1]}\n" in file.read_text(), file


def parameters(ptx: Path) -> list[str]:
    """`p` for each pointer and `n` for each 32-bit number that the kernel takes."""
    head = ptx.read_text().partition(".entry")[2].partition(")")[0]
    return ["p" if kind == "u64" else "n" for kind in re.findall(r"\.param \.(?:align \d+ )?(\w+)", head)]


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_launches_hand_over_what_the_kernels_take(bits: int) -> None:
    """A wrong count or kind of arguments would only show on a GPU, as a crash or as garbage."""
    files = ptx_files((9, 0), kernel_names(bits))
    ops = np.tile(np.arange(len(kernels.OPS))[:, None], (2, 2))
    modes = np.repeat([[0, 0], [1, 1]], len(kernels.OPS), axis=0)
    launches = [] if bits == 8 else [schedule_erase(1, 4, 8, 8, bits=bits, channels_last=True)]
    for width in (8, 7):
        plan = make_plan((len(ops), 8, width, 3), ops, np.zeros(ops.shape), None, None, modes, None)
        for channels_last in (True, False):
            options = {"bits": bits, "channels_last": channels_last, "aligned": True}
            launches += schedule(plan.header, 8, width, **options)
    for launch in launches:
        given = ["n" if isinstance(argument, int) else "p" for argument in launch.arguments]
        assert given == parameters(files[launch.kernel]), launch.kernel
    assert {launch.kernel for launch in launches} == set(files)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_the_last_passes_hand_over_what_their_kernels_take(bits: int) -> None:
    dtypes = {8: (), 16: ("float16", "bfloat16"), 32: ("float32",)}[bits]
    files = ptx_files((9, 0), [*finish_names(bits), *(f"mixed_{dtype}" for dtype in dtypes)])
    old, kept, new = (9, 8), (7, 6), (5, 4)
    launches = [schedule_picked(2, old, kept, bits=wide, channels_last=True) for wide in (8, bits)]
    for wide in (8, bits):
        launches += schedule_resize(2, old, kept, new, (3, 2), bits=wide, channels_last=False)
    for dtype in dtypes:
        launches += schedule_mixed(2, old, kept, (0, 1, 2, 3), dtype=dtype, channels_last=True)
    for launch in launches:
        given = ["n" if isinstance(argument, int) else "p" for argument in launch.arguments]
        assert given == parameters(files[launch.kernel]), launch.kernel
    assert {launch.kernel for launch in launches} == set(files)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PTX of kernels that must not pass."""
    folder = tmp_path_factory.mktemp("bad")
    subprocess.run([sys.executable, "-P", str(BAD), str(folder)], check=True, timeout=280)
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
