"""What the documentation shows is run: Python blocks to their end, commands against their own help."""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "benchmarks").glob("*.md"))
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
# An inner copy of the documentation's data: `photos/train/<class>/*` and `photos/val/<class>/*`.
SPLITS = ("train", "val")
RECORD = re.compile(r"\]\((benchmarks/[^)#]+\.md)\)")
MOST_README_LINES = 110


class Block(NamedTuple):
    """A fenced block of a page, and the line it starts on."""

    page: str
    line: int
    language: str
    text: str


def blocks_of(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
    ]


def commands_of(text: str) -> list[list[str]]:
    """The fastpipe and make commands of a shell block, as argument lists; continued lines are joined."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line for line in words if line and (line[0] == "make" or line[0].startswith("fastpipe-"))]


BLOCKS = [b for path in PAGES for b in blocks_of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))]
PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [
    pytest.param(command, id=f"{block.page}:{block.line} {' '.join(command)}")
    for block in BLOCKS
    if block.language in ("sh", "console")
    for command in commands_of(block.text)
]


@functools.cache
def help_of(program: str, *command: str) -> str:
    """What the installed console script, or one of its commands, prints for --help."""
    script = Path(sys.executable).parent / program
    return subprocess.run(
        [script, *command, "--help"], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_readme_shows_python() -> None:
    assert [block for block in PYTHON if block.page == "README.md"], "README.md holds no ```python block"


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_README_LINES


def test_readme_quotes_its_records() -> None:
    """Each figure of the measured ratios stands in the record that its sentence links to."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    why = text.partition("\n## Why\n")[2].partition("\n## ")[0]
    points = why.split("\n- ")[1:]
    assert len(points) == 3
    for point in points:
        (record,) = RECORD.findall(point)
        figures = re.findall(r"\d+\.\d+", point)
        known = (ROOT / record).read_text(encoding="utf-8")
        assert figures and [figure for figure in figures if figure not in known] == [], record


def test_readme_picture_is_that_of_the_records() -> None:
    script = ROOT / "scripts" / "readme_picture.py"
    spec = importlib.util.spec_from_file_location("readme_picture", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PICTURE.read_text(encoding="utf-8") == module.picture(), f"run {script}"


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}:{block.line}")
def test_python_block_runs(block: Block, photos: Path, tmp_path: Path) -> None:
    for split in SPLITS:
        shutil.copytree(photos, tmp_path / "photos" / split)
    script = tmp_path / "snippet.py"
    script.write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-W", "error::UserWarning", script.name]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, f"{block.page}:{block.line}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists_with_its_options(command: list[str]) -> None:
    program, *arguments = command
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {argument for argument in arguments if "=" not in argument} <= set(targets)
        return
    # The documentation writes --train-resolution where the parser may write --train_resolution.
    subcommand = ["study"] if arguments[:1] == ["study"] else []
    known = help_of(program, *subcommand).replace("_", "-")
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    assert [option for option in options if not re.search(rf"{re.escape(option)}\b", known)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(path: Path) -> None:
    links = LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8")))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_blocks_and_commands_are_found() -> None:
    page = "a\n```python\nprint(1)\n```\n```sh\nfastpipe-train --a \\\n  --b=1  # why\nls\n$ make demo\n```\n"
    python, shell = blocks_of("page.md", page)
    assert python == Block("page.md", 2, "python", "print(1)\n")
    assert commands_of(shell.text) == [["fastpipe-train", "--a", "--b=1"], ["make", "demo"]]
