"""The version that PTX names: the assembler says which is the lowest for each target."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fastpipe.kernels.cuda.compile import find_tool
from fastpipe.kernels.cuda.ptx import LOWEST, with_lowest_version

needs_ptxas = [
    pytest.mark.cuda_gates,
    pytest.mark.skipif(
        find_tool("ptxas") is None, reason="no ptxas in CUDA_HOME, the PATH or triton's wheel"
    ),
]


def empty_kernel(version: tuple[int, int], target: int) -> str:
    head = f".version {version[0]}.{version[1]}\n.target sm_{target}\n.address_size 64\n"
    return head + ".visible .entry k()\n{\nret;\n}\n"


def assembled(ptx: str, target: int, folder: Path) -> str:
    """What ptxas complains of; empty where it is content."""
    source = folder / "k.ptx"
    source.write_text(ptx)
    command = [str(find_tool("ptxas")), f"-arch=sm_{target}", str(source), "-o", str(folder / "k.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def before(version: tuple[int, int]) -> tuple[int, int]:
    """The version in front of it. 6.5 was followed by 7.0, 7.8 by 8.0, 8.8 by 9.0."""
    major, minor = version
    return (major, minor - 1) if minor else (major - 1, {6: 5, 7: 8, 8: 8}[major - 1])


@pytest.mark.parametrize("target", LOWEST)
class TestAssembler:
    pytestmark = needs_ptxas

    def test_takes_the_version_and_none_before_it(self, target: int, tmp_path: Path) -> None:
        assert assembled(empty_kernel(LOWEST[target], target), target, tmp_path) == ""
        words = f"does not support .target sm_{target}"
        assert words in assembled(empty_kernel(before(LOWEST[target]), target), target, tmp_path)


@pytest.mark.parametrize(("target", "expected"), [(90, "7.8"), (121, "8.8"), (999, "9.5")])
def test_the_version_is_lowered_and_nothing_else(target: int, expected: str) -> None:
    """A GPU that came later keeps what the compiler wrote."""
    ptx = "// by NVVM\n" + empty_kernel((9, 5), target)
    assert with_lowest_version(ptx) == ptx.replace(".version 9.5", f".version {expected}")


def test_a_version_is_never_raised() -> None:
    assert with_lowest_version(empty_kernel((7, 2), 90)) == empty_kernel((7, 2), 90)


def test_what_is_no_ptx_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"must begin with \.version"):
        with_lowest_version("nothing")


def test_the_table_of_the_documentation() -> None:
    """docs/install.md names the version and the driver of every target."""
    text = (Path(__file__).parents[2] / "docs" / "install.md").read_text()
    rows = re.findall(r"^\| (\d+)\.(\d) \|.*\| (\d+)\.(\d) \|", text, re.MULTILINE)
    assert {int(a + b): (int(c), int(d)) for a, b, c, d in rows} == LOWEST
