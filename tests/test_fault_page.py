"""The pages of faults and their tests: every fault is there, and every test that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "design" / "013-faults-and-their-tests.md"
GPU_PAGE = PAGE.with_name("014-gpu-faults-and-their-tests.md")
NUMBERS = {"A": 13, "B": 5, "C": 5, "E": 8}
ENTRIES = [f"{section}{number + 1}" for section, most in NUMBERS.items() for number in range(most)]


def rows() -> list[list[str]]:
    """The cells of every fault: its entry, the fault, its tests, how they were seen to fail."""
    lines = [line.replace(r"\|", "") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[1] != "fault"]


def named(cell: str) -> list[tuple[str, str]]:
    """The tests of a row as (file, function); "::name" alone is of the file before it, "" is a whole file."""
    found, file = [], ""
    for text in re.findall(r"`([^`]+)`", cell):
        path, _, name = text.partition("::")
        file = path or file
        found.append((file, name.partition("[")[0]))
    return found


def test_every_entry_stands_there_once() -> None:
    assert sorted(row[0] for row in rows() if row[0]) == sorted([*ENTRIES, "D"])


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[1][:40])
def test_every_test_that_is_named_is_there(row: list[str]) -> None:
    tests = named(row[2])
    assert tests and re.match(r"on 26d1958|undone: ", row[3])
    for file, name in tests:
        source = (TESTS / file).read_text(encoding="utf-8")
        assert f"def {name}(" in source if name else "def test_" in source, (file, name)


def gpu_tests() -> list[tuple[str, str]]:
    """The tests that the page of the GPU's faults names; a name without a file is of the file before it."""
    found, file = [], ""
    for line in GPU_PAGE.read_text(encoding="utf-8").splitlines():
        cells = line.split("|")
        for text in re.findall(r"`([^`]+)`", cells[2]) if line.startswith("| ") else []:
            path, _, name = text.rpartition("::")
            file = path or file
            found.append((file, name) if name.startswith("test_") else (text, ""))
    return [(file, name) for file, name in found if not file.startswith("benchmarks/")]


@pytest.mark.parametrize(("file", "name"), gpu_tests())
def test_every_test_of_a_gpu_fault_is_there(file: str, name: str) -> None:
    source = (TESTS / file).read_text(encoding="utf-8")
    whole = name.removesuffix("...")  # a name that is cut off
    assert f"def {whole}{'(' if whole == name else ''}" in source if name else "def test_" in source
