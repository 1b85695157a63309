"""The matrix of clients: complete, and every "no" has its reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
CLIENTS = sorted(path.stem for path in Path(__file__).parent.glob("*.txt"))


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def clients_script() -> Any:
    spec = importlib.util.spec_from_file_location("clients", ROOT / "scripts" / "clients.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_client_has_a_program_and_stands_on_the_page() -> None:
    programs = {path.stem.removeprefix("with_") for path in Path(__file__).parent.glob("programs/with_*.py")}
    assert programs == set(CLIENTS)
    assert sorted({row[0].split()[0] for row in rows() if row[0]}) == CLIENTS


def test_every_row_has_a_result_and_every_no_a_reason() -> None:
    for _, tried, result, fast, note in rows():
        assert tried and result in ("yes", "no", "partly", "not tried"), (tried, result)
        assert note or result == "yes", tried
        assert fast.startswith(("yes (", "no (", "not applicable")), (tried, fast)
        assert note or not fast.startswith("no ("), tried


def test_a_row_with_a_bar_stays_one_row() -> None:
    row = {"tried": "a | b", "result": "yes", "fast": "not applicable", "note": ""}
    told = clients_script().page([{"client": "x", "version": "1", "torch": "2", "rows": [row]}])
    assert "| x 1 | a \\| b | yes | not applicable |  |" in told


def test_a_client_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert clients_script().main(["nobody"]) == 2
    assert "Found: nobody" in capsys.readouterr().err
