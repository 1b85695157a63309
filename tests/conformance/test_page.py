"""docs/conformance.md is the page of this suite: its checks, its backends, its tolerances."""

import ast
from pathlib import Path

from fastpipe.backends import registry

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "conformance.md"
REMEDY = "run scripts/conformance"


def _page():
    return PAGE.read_text(encoding="utf-8")


def _checks():
    """The first line of the docstring of every test that runs for each backend."""
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            if is_test and "lab" in [argument.arg for argument in node.args.args]:
                yield (ast.get_docstring(node) or "").split("\n")[0]


def test_every_check_has_its_line():
    lines = [line.split(" | ")[0].removeprefix("| ") for line in _page().splitlines()]
    checks = list(_checks())
    assert len(checks) > 25 and "" not in checks
    assert [check for check in checks if check not in lines] == [], REMEDY


def test_every_backend_and_storage_has_its_column():
    (header,) = (line for line in _page().splitlines() if line.startswith("| check |"))
    for name in registry.BACKENDS:
        for storage in registry.load(name).capabilities.storage:
            # Own data sets are lifted by proof: tests/loader/test_own_data_sets.py.
            assert storage in ("mixed", "own") or f"{name}, {storage}" in header, REMEDY


def test_the_page_shows_no_failure():
    assert "**" not in _page().partition("## Checks\n\n")[2].partition("\n\n")[2]
