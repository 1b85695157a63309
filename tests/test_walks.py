"""docs/design/016-walks.md names functions that exist, each once, and goes down the rooms."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "design" / "016-walks.md"
LINE = re.compile(r"^( *)([\w/]+\.py) ([\w.]+)")


class Step(NamedTuple):
    """One line of a walk."""

    depth: int
    path: Path
    function: str


def walks() -> Iterator[list[Step]]:
    for block in re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        found = [match for line in block.splitlines() if (match := LINE.match(line))]
        assert len(found) == len(block.splitlines()), block
        yield [Step(len(match[1]) // 4, _path(match[2]), match[3]) for match in found]


def _path(name: str) -> Path:
    at_top = ROOT / name
    return at_top if name.startswith(("train/", "profiling/", "kernels/")) else ROOT / "fastpipe" / name


@cache
def functions(path: Path) -> frozenset[str]:
    """`name` and `Class.name` of everything that can be called."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return frozenset(found)


@cache
def ranks() -> dict[str, int]:
    """Those that tests/test_architecture.py holds."""
    spec = importlib.util.spec_from_file_location("ranks_of_rooms", ROOT / "tests" / "test_architecture.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.RANKS)


def rank(path: Path) -> int:
    inside = path.relative_to(ROOT).parts
    room = inside[1] if inside[0] == "fastpipe" else inside[0]
    return ranks()[room.removesuffix(".py")]


@pytest.mark.parametrize("walk", list(walks()), ids=lambda walk: walk[0].function)
def test_every_function_exists_and_no_call_goes_up(walk: list[Step]) -> None:
    above: dict[int, Step] = {}
    for step in walk:
        assert step.function in functions(step.path), step
        above[step.depth] = step
        if step.depth:
            assert rank(step.path) <= rank(above[step.depth - 1].path), (above[step.depth - 1], step)


def test_each_function_is_named_once() -> None:
    named = [(step.path, step.function) for walk in walks() for step in walk]
    assert len(named) > 60 and len(named) == len(set(named))
